"""Do one target's work on a shard: look up, embed and write what was read and decoded for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from transforms.decode.pool import DecodeAndResize
from transforms.embed import embed
from transforms.engines import Engine, EngineConfig, Outputs, choose_engine, load_engine
from transforms.engines.models import load_model
from transforms.errors import ImageError
from transforms.parts.reuse import Reuse, copy_rows
from transforms.parts.rows import Decoded, Origin, features_table
from transforms.parts.write import FailureRow, Receipt, write_part
from transforms.records import ImageReference
from transforms.stopwatch import Stopwatch
from transforms.storage import Storage
from transforms.targets import ExtractJob, Target


@dataclass(slots=True)
class Work:
    """One target's work on a shard, and its results so far."""

    target: Target
    origin: Origin
    engine: Engine
    decode: DecodeAndResize
    reuse: Reuse
    references: int
    watch: Stopwatch = field(default_factory=Stopwatch)
    tables: list[pa.Table] = field(default_factory=list)
    failures: list[FailureRow] = field(default_factory=list)
    bytes_read: int = 0
    reused: int = 0

    def fail(self, reference: ImageReference, error: ImageError) -> None:
        modified = round(reference.modified.timestamp() * 1e6) if reference.modified else None
        what = (error.stage, error.kind.word, error.message)
        row = FailureRow(reference.uri, reference.etag, reference.size, modified, *what)
        self.failures.append(row)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A target's images among some of a shard, looked up and decoded; keyed by their sha256."""

    # All images of equal bytes.
    same: dict[str, list[ImageReference]] = field(default_factory=dict)
    # Rows of existing vectors, features schema.
    rows: list[pa.Table] = field(default_factory=list)
    # One image for each content without a vector.
    decoded: list[Decoded] = field(default_factory=list)
    failed: dict[str, ImageError] = field(default_factory=dict)


def start(target: Target, references: int, job: ExtractJob, output: Storage) -> Work:
    """Load a target's network; one that has nothing to do in the shard is not loaded."""
    model = load_model(output, _network_id(target))
    engine = load_engine(
        EngineConfig(
            str(model), target.engine, target.precision, job.cores, job.require_accelerator
        )
    )
    decode = DecodeAndResize(job.decode, engine.model.input_size, target.resize)
    reuse = Reuse(output, target.index_key, target.table)
    return Work(target, job.origin(target), engine, decode, reuse, references)


def _network_id(target: Target) -> str:
    """Return which of a target's exports this machine runs."""
    if target.lowered_id and choose_engine(target.engine) == "xla":
        return target.lowered_id
    return target.model_id


def write(shard: str, work: Work, job: ExtractJob, output: Storage) -> Receipt:
    """Write a target's part, if it has rows, and return its receipt."""
    part, target = None, work.target
    if work.tables:
        with work.watch.time("write"):
            table = pa.concat_tables(work.tables)
            name = f"part-{job.run_id}-{shard}"
            part = write_part(output, table, target.table, name, target.recipe)
    failures, seconds = tuple(work.failures), work.watch.seconds
    return Receipt(shard, work.references, part, failures, work.bytes_read, seconds, work.reused)


def copy_known(references: Sequence[ImageReference], own: Sequence[int], work: Work) -> list[int]:
    """Copy the rows of images of which only carried values changed, and return the others' places.

    A row that is not found any more is made anew, from the image.
    """
    known = [(references[i], content) for i in own if (content := references[i].content)]
    if not known:
        return list(own)
    with work.watch.time("reuse"):
        rows = work.reuse.find(list(dict.fromkeys(content for _, content in known)))
        there = {content for table in rows for content in table["content_sha256"].to_pylist()}
        copies = [(reference, content) for reference, content in known if content in there]
        if copies:
            work.tables.append(copy_rows(_joined(rows), copies, work.origin))
            work.reused += len(copies)
    return [i for i in own if references[i].content not in there]


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Join rows of several parts, of which some carry values."""
    return pa.concat_tables(tables, promote_options="permissive")


def complete(chunk: Chunk, work: Work) -> None:
    """Compute the chunk's missing vectors, and make each of its images a row or a failure."""
    if chunk.decoded:
        with work.watch.time("embed"):
            outputs, failures = embed(work.engine, [item.image.pixels for item in chunk.decoded])
            chunk.failed.update(
                {chunk.decoded[position].sha256: error for position, error in failures.items()}
            )
            keep = [position for position in range(len(chunk.decoded)) if position not in failures]
            kept = Outputs(outputs.features[keep], outputs.scores[keep], outputs.indices[keep])
            computed = features_table(
                [chunk.decoded[i] for i in keep], kept, work.engine.model, work.origin
            )
        if computed.num_rows:
            work.tables.append(computed)
            work.reuse.remember(computed)
            chunk.rows.append(computed)
    first = {item.sha256 for item in chunk.decoded}
    # Free the pixels before decoding the next ones.
    chunk.decoded.clear()
    copies = []
    for content, references in chunk.same.items():
        if content in chunk.failed:
            for reference in references:
                work.fail(reference, chunk.failed[content])
        else:
            copies += [(reference, content) for reference in references[content in first :]]
    if copies:
        with work.watch.time("reuse"):
            work.tables.append(copy_rows(_joined(chunk.rows), copies, work.origin))
        work.reused += len(copies)
