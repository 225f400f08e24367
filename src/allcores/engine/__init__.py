"""Decides who gets what, and when. No process, file or clock in here: events in, orders out."""
