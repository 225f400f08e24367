"""Decides which worker gets which items, and what becomes of them; pure: events in, commands out."""
