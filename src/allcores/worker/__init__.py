"""Runs only in the child; light imports, since every start pays for them."""
