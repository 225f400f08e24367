"""Runs that can be resumed: a journal of outcomes, and the output made from it."""
