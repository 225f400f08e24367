"""Keeps alive: processes that start, hang, die and are replaced."""
