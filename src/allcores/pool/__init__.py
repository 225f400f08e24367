"""What programs call: the pool, result streams, futures and the executor; and the driver below."""
