"""Lines of Python that read a published table with the libraries of others."""

from __future__ import annotations

from collections.abc import Mapping


def how_to_read(place: str, in_bucket: bool, options: Mapping[str, str]) -> list[str]:
    """Return one line of Python for each library.

    Args:
        place: Path or URL of the features table.
        in_bucket: Whether it lies in a bucket. The libraries' own readers of Parquet need other
            settings for a bucket, so there the reader of Delta reads the files too.
        options: What this reader must be told about the bucket; no secrets.
    """
    more = f", storage_options={dict(options)!r}" if options else ""
    table = f"deltalake.DeltaTable({place!r}{more})"
    files = f"{table}.file_uris()"
    if in_bucket:
        arrow = f"import deltalake; {table}.to_pyarrow_table()"
        duck = f"import deltalake, duckdb; duckdb.from_arrow({table}.to_pyarrow_dataset())"
    else:
        arrow = f"import deltalake, pyarrow.dataset as ds; ds.dataset({files}).to_table()"
        duck = f"import deltalake, duckdb; duckdb.read_parquet({files})"
    return [
        f"  pyarrow  {arrow}",
        f"  pandas   import deltalake; {table}.to_pandas()",
        f"  DuckDB   {duck}.select('uri, label, score')",
    ]
