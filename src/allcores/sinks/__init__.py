"""Where outcomes are written: JSON lines, CSV, Parquet, folders."""
