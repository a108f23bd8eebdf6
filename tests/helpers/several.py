"""Runs with several backbones, and what they wrote."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline import Config, extract_each

SMALL = "MobileNetV3Small,weights=random,input-size=64,top-k=3"
SMALL_TABLE = "features-MobileNetV3Small"
# Columns that differ between two runs of the same images.
_OF_RUN = ("run_id", "extracted_at")


def read(output: Path, table: str) -> pa.Table:
    """Return the published rows of a table without the columns of the run, sorted by URI."""
    files = DeltaTable(f"{output}/{table}").file_uris()
    rows = pa.concat_tables([pq.read_table(file) for file in files]).sort_by("uri")
    return rows.drop_columns(_OF_RUN).combine_chunks().replace_schema_metadata(None)


def stems(output: Path, table: str) -> list[str]:
    rows = DeltaTable(f"{output}/{table}").to_pyarrow_table(columns=["uri"])
    return sorted(Path(uri).stem for uri in rows["uri"].to_pylist())


def night(images: Path, output: Path, *more: str, **options):
    """Run the first backbone and further ones."""
    options = {"max_failure_rate": 0.5, "shard_size": 5, **options}
    backbones = ("efficientnet_lite0", *more) if more else ()
    return extract_each(
        Config.of(inputs=(str(images),), output=str(output), backbones=backbones, **options)
    )
