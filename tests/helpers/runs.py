"""Make small folders of real photos, and read what a run published of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image


def make_folder(
    folder: Path,
    photos: Path,
    names: str = "chelsea coffee camera astronaut rocket motorcycle_left",
) -> Path:
    """Make JPEGs of at most 300 pixels from the named sample photos."""
    folder.mkdir(parents=True)
    for name in names.split():
        source = next(photos.glob(f"{name}.*"))
        with Image.open(source) as image:
            small = image.convert("RGB")
            small.thumbnail((300, 300))
            small.save(folder / f"{name}.jpg", quality=92)
    return folder


def read_features(output: Path | str) -> pa.Table:
    """Return the published features, sorted by URI, with the vectors' own type."""
    import pyarrow.parquet as pq
    from deltalake import DeltaTable

    files = DeltaTable(f"{output}/features").file_uris()
    return pa.concat_tables([pq.read_table(file) for file in files]).sort_by("uri")


def read_errors(output: Path | str) -> list[dict[str, Any]]:
    """Return the published failures, sorted by URI."""
    from deltalake import DeltaTable

    return DeltaTable(f"{output}/errors").to_pyarrow_table().sort_by("uri").to_pylist()


def vectors(table: pa.Table) -> Any:
    """Return the embeddings as float32 [N, D]."""
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def names(output: Path | str) -> list[str]:
    """Return the file names of the published features, sorted by uri."""
    return [Path(uri).name for uri in read_features(output)["uri"].to_pylist()]


def without(table: pa.Table, name: str) -> pa.Table:
    """Return the rows whose uri does not end with a name."""
    return table.filter(pa.array([not uri.endswith(name) for uri in table["uri"].to_pylist()]))
