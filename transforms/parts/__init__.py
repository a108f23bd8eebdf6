"""The Parquet files of the tables: write, check, rewrite, merge, reuse."""
