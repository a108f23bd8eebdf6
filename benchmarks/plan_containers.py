"""Make an output whose table holds all members of some containers, and plan it again."""

from __future__ import annotations

import time
from unittest.mock import patch

import numpy as np
import pyarrow as pa

DIMENSION = 8


def make_output(output: str, pattern: str) -> None:
    """Write tables and indexes as after a first night over all containers of ``pattern``."""
    from pipeline import Config
    from pipeline.state.run import Run
    from pipeline.steps.session import make_recipe
    from pipeline.tables import Tables
    from pipeline.tables.commit import Commit
    from transforms.backbones import resolve
    from transforms.containers.index import Indexes
    from transforms.parts.write import write_part
    from transforms.sources import parse_input
    from transforms.storage import open_storage

    storage = open_storage(output)
    config = Config(inputs=(pattern,), output=output)
    recipe = make_recipe(config, resolve(config.network))
    parts = []
    for number, piece in enumerate(parse_input(pattern).split()):
        images = pa.Table.from_batches(list(piece.list_images(indexes=Indexes(storage))))
        name = f"part-first-{number:05d}"
        parts.append(write_part(storage, _rows(images, number), "features", name, recipe))
    tables = Tables.open(storage)
    tables.errors.commit(Commit("first", []))
    tables.features.commit(Commit("first", parts))
    Run("first", "", config.inputs, recipe, state="published", covers=config.inputs).save(storage)


def _rows(images: pa.Table, seed: int) -> pa.Table:
    from transforms.records import features_schema

    schema, count = features_schema(DIMENSION), images.num_rows
    random = np.random.default_rng(seed)
    kind = schema.field("embedding").type
    values = pa.array(random.random(count * DIMENSION, np.float32))
    filled = {
        "content_sha256": [random.bytes(32).hex() for _ in range(count)],
        "recipe": ["0" * 64] * count,
        "run_id": ["first"] * count,
        "embedding": pa.FixedSizeListArray.from_arrays(values, type=kind),
        **{name: images[name] for name in ("uri", "etag", "size", "modified")},
    }
    columns = [filled.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.table(columns, schema=schema)


def plan_again(output: str, pattern: str) -> tuple[float, str]:
    """Plan a night without change, and fail if it reads a byte of a container.

    Returns:
        The seconds of ``pipeline.plan_run``, and its summary.
    """
    import pipeline

    def refuse(*_: object) -> bytes:
        raise AssertionError("a container was read")

    with patch("transforms.containers.bytes.LocalFile.read", refuse):
        start = time.perf_counter()
        summary = pipeline.plan_run(pipeline.Config(inputs=(pattern,), output=output))
        return time.perf_counter() - start, str(summary)
