"""Where items are read from: text files, CSV, Parquet, SQL, file names; and the position a run resumes at."""
