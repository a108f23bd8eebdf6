"""Say what the workers of a run need to know: a target is one backbone with its pair of tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from transforms.choices import EngineName, Precision, ResizeMode
from transforms.decode.image import DecodePolicy
from transforms.parts.rows import Origin
from transforms.read import ReadPolicy
from transforms.recipe import Recipe, recipe_id
from transforms.records import ImageReference
from transforms.storage.settings import Stores


@dataclass(frozen=True, slots=True)
class Target:
    """One backbone of a run, and where its rows and receipts go."""

    recipe: Recipe
    # Folder of the exported network under ``models/``.
    model_id: str
    # Folder of the target's receipts in the output.
    folder: str
    # Its bit in ``ImageReference.targets``.
    bit: int = 1
    # Folder of the same network, lowered for XLA; None if no worker may need it.
    lowered_id: str | None = None
    # Name of the features table.
    table: str = "features"
    resize: ResizeMode = "squash"
    engine: EngineName = "auto"
    precision: Precision = "float32"
    # Type of the carried values; None for a run that carries nothing.
    source: pa.DataType | None = None
    # Key of the index of existing vectors (``transforms.parts.reuse``); None for no reuse.
    index_key: str | None = None

    def wants(self, reference: ImageReference) -> bool:
        """Tell whether an image is to be done for this target."""
        return bool(reference.targets & self.bit)

    def receipt_key(self, shard: str) -> str:
        """Return the key of a shard's receipt in the output."""
        return f"{self.folder}/receipts/{shard}.json"


@dataclass(frozen=True, slots=True)
class ExtractJob:
    """Everything a worker needs to know; small, and pickled with the graph."""

    output: str
    run_id: str
    # UTC; the ``extracted_at`` of all rows, so that a shard done twice gives equal files.
    started_at: datetime
    # At least one.
    targets: tuple[Target, ...]
    # Cores of each worker process; None for all that it may use.
    cores: int | None = None
    # Whether a worker fails instead of computing on a CPU.
    require_accelerator: bool = False
    decode: DecodePolicy = field(default_factory=DecodePolicy)
    read: ReadPolicy = field(default_factory=ReadPolicy)
    # Where buckets are (``transforms.storage.settings``); no secrets.
    stores: Stores = ()

    @property
    def run_folder(self) -> str:
        """Return the run's folder in the output, which holds the shards."""
        return f"runs/{self.run_id}"

    def origin(self, target: Target) -> Origin:
        """Return the columns that all rows of a target share."""
        return Origin(recipe_id(target.recipe), self.run_id, self.started_at, target.source)
