"""Lines of Python that read a published table with the libraries of others."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from transforms.storage.urls import local_path


def how_to_read(place: str, options: Mapping[str, str]) -> list[str]:
    """Return one line of Python for each library.

    Args:
        place: Path or URL of the features table.
        options: What this reader must be told about the bucket; no secrets.
    """
    more = f", storage_options={dict(options)!r}" if options else ""
    table = f"deltalake.DeltaTable({place!r}{more})"
    files = f"{table}.file_uris()"
    # For a bucket, the libraries' own readers of Parquet need other settings. For a path with a
    # space, file_uris() gives "%20", which they do not find. In both cases the reader of Delta
    # reads the files too.
    path = local_path(place)
    if path is None or quote(str(path)) != str(path):
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
