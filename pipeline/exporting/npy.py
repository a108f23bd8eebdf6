"""A matrix and a table of ids for each part, in the folders that clip-retrieval reads.

``img_emb/img_emb_STEM.npy`` holds the vectors, float32 or float16 [n, D], and
``metadata/metadata_STEM.parquet`` the id and the columns of the same rows in the same order.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.exporting.base import Batch, Job
from pipeline.exporting.mirror import is_stem
from pipeline.exporting.numbers import as_numbers
from transforms import parquet


@dataclass(frozen=True, slots=True)
class Npy:
    """The folders of matrices and of ids."""

    numbers: str
    folders = ("img_emb", "metadata")

    def stem_of(self, key: str) -> str | None:
        for folder, ending in zip(self.folders, (".npy", ".parquet"), strict=True):
            start = f"{folder}/{folder}_"
            if key.startswith(start) and key.endswith(ending):
                stem = key.removeprefix(start).removesuffix(ending)
                return stem if is_stem(stem) else None
        return None

    def encode(self, batch: Batch, stem: str) -> Iterator[tuple[str, bytes]]:
        vectors = as_numbers(batch.vectors, self.numbers)
        header = io.BytesIO()
        shape = {"descr": vectors.dtype.str, "fortran_order": False, "shape": vectors.shape}
        np.lib.format.write_array_header_1_0(header, shape)
        yield f"img_emb/img_emb_{stem}.npy", header.getvalue() + vectors.tobytes()
        yield f"metadata/metadata_{stem}.parquet", parquet.encode(batch.rows)


def open_target(job: Job) -> Npy:
    """Return the target."""
    return Npy(job.shape.options["numbers"])


def hint(job: Job) -> str:
    """Say how to build an index of the files."""
    return (
        f"autofaiss build_index --embeddings={job.dest}/img_emb --index_path=knn.index "
        "--index_infos_path=infos.json"
    )
