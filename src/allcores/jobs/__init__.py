"""Jobs that outlive their process: a queue in a database, and what runs them."""
