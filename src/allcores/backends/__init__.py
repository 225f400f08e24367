"""Where tasks run: the contract (`base`), a file or folder for each place, and what opens them (`open`)."""
