"""What programs call: the pool and its verbs, result streams, futures and the executor; and the driver below."""
