"""Files of chat as records: formats.py knows what a line can be, files.py opens them, source.py is a run's source."""
