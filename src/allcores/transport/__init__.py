"""Carries bytes; does not know what a task means."""
