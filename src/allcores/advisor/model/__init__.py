"""The model: numbers in, a recommendation out. It reads no clock, starts nothing and imports nothing that does."""
