"""The scripts behind every published number; start with run.py."""
