"""Worker processes: the table of workers, their connections, starts and exits, and what is sent and received."""
