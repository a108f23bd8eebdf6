"""Extract a shard of image references into one part of the features table and a receipt.

The shard is the unit of work: one worker reads, decodes, embeds and writes it. Only its name and
its receipt cross a Beam stage, never bytes, pixels or vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice, repeat

import apache_beam as beam
import pyarrow as pa

from transforms.allocator import share_one_heap
from transforms.choices import EngineName, Precision, ResizeMode
from transforms.decode.image import DecodePolicy
from transforms.decode.pool import DecodeAndResize, decode_all
from transforms.embed import embed
from transforms.engines import Engine, EngineConfig, Outputs, load_engine
from transforms.engines.models import load_model
from transforms.errors import ImageError
from transforms.parts.reuse import Reuse, copy_rows
from transforms.parts.rows import Decoded, Origin, features_table
from transforms.parts.write import (
    FailureRow,
    Receipt,
    decode_receipt,
    encode_receipt,
    read_receipt,
    write_part,
)
from transforms.prefetch import prefetch
from transforms.read import EncodedImage, ReadPolicy, Result, read_images
from transforms.recipe import Recipe, recipe_id
from transforms.records import ImageReference
from transforms.shards import read_shard
from transforms.stopwatch import Stopwatch
from transforms.storage import Storage, open_storage
from transforms.storage.settings import Stores

# Bytes of pixels held at once: 384 images of 224×224.
_CHUNK_BYTES = 64 << 20
# Chunks are multiples of this: whole batches of every engine, padded only in the last chunk.
_ROUND = 64


@dataclass(frozen=True, slots=True)
class ExtractJob:
    """Everything a worker needs to know; small, and pickled with the graph."""

    output: str
    run_id: str
    # UTC; the ``extracted_at`` of all rows, so that a shard done twice gives equal files.
    started_at: datetime
    recipe: Recipe
    # Folder of the exported network under ``models/``.
    model_id: str
    resize: ResizeMode = "squash"
    engine: EngineName = "auto"
    precision: Precision = "float32"
    # Cores of each worker process; None for all that it may use.
    cores: int | None = None
    decode: DecodePolicy = field(default_factory=DecodePolicy)
    read: ReadPolicy = field(default_factory=ReadPolicy)
    table: str = "features"
    # Type of the carried values; None for a run that carries nothing.
    source: pa.DataType | None = None
    # Key of the index of existing vectors (``transforms.parts.reuse``); None for no reuse.
    index_key: str | None = None
    # Where buckets are (``transforms.storage.settings``); no secrets.
    stores: Stores = ()

    @property
    def origin(self) -> Origin:
        """Return the columns that all rows of the run share."""
        return Origin(recipe_id(self.recipe), self.run_id, self.started_at, self.source)

    @property
    def run_folder(self) -> str:
        """Return the run's folder in the output."""
        return f"runs/{self.run_id}"


@dataclass(slots=True)
class _Progress:
    """Results of a shard so far."""

    reuse: Reuse
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


def extract_shard(shard: str, job: ExtractJob) -> Receipt:
    """Extract a shard unless it has a receipt, and return its receipt.

    Extracting a shard twice, even at the same time, is harmless.

    Raises:
        StorageError: If the output cannot be read or written.
    """
    share_one_heap()
    output = open_storage(job.output, job.stores)
    receipt_key = f"{job.run_folder}/receipts/{shard}.json"
    if output.exists(receipt_key):
        if done := read_receipt(output, receipt_key):
            return done
        output.delete(receipt_key)
    model = load_model(output, job.model_id)
    engine = load_engine(EngineConfig(str(model), job.engine, job.precision, job.cores))
    receipt = _extract(shard, job, engine, output)
    if not output.write_if_absent(receipt_key, encode_receipt(receipt)):
        # Another worker was first: its part counts.
        return decode_receipt(output.read(receipt_key))
    return receipt


def _extract(shard: str, job: ExtractJob, engine: Engine, output: Storage) -> Receipt:
    progress = _Progress(Reuse(output, job.index_key, job.table))
    references = read_shard(output, f"{job.run_folder}/plan/{shard}.parquet")
    chunks = _prepared(_copy_known(references, progress, job), progress, job, engine)
    for chunk in prefetch(chunks) if engine.overlaps else chunks:
        _complete(chunk, progress, job, engine)
    part = None
    if progress.tables:
        with progress.watch.time("write"):
            table = pa.concat_tables(progress.tables)
            part = write_part(output, table, job.table, f"part-{job.run_id}-{shard}", job.recipe)
    failures = tuple(progress.failures)
    seconds = progress.watch.seconds
    return Receipt(
        shard, len(references), part, failures, progress.bytes_read, seconds, progress.reused
    )


def _copy_known(
    references: Sequence[ImageReference], progress: _Progress, job: ExtractJob
) -> list[ImageReference]:
    """Copy the rows of images of which only carried values changed, and return the other images.

    A row that is not found any more is made anew, from the image.
    """
    known = [(reference, reference.content) for reference in references if reference.content]
    if not known:
        return list(references)
    with progress.watch.time("reuse"):
        rows = progress.reuse.find(list(dict.fromkeys(content for _, content in known)))
        there = {content for table in rows for content in table["content_sha256"].to_pylist()}
        copies = [(reference, content) for reference, content in known if content in there]
        if copies:
            progress.tables.append(copy_rows(_joined(rows), copies, job.origin))
            progress.reused += len(copies)
    return [reference for reference in references if reference.content not in there]


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Join rows of several parts, of which some carry values."""
    return pa.concat_tables(tables, promote_options="permissive")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some images of a shard, read, looked up and decoded; keyed by the sha256 of their bytes."""

    # All images of equal bytes.
    same: dict[str, list[ImageReference]]
    # Rows of existing vectors, features schema.
    rows: list[pa.Table]
    # One image for each content without a vector.
    decoded: list[Decoded]
    failed: dict[str, ImageError]


def _prepared(
    references: Sequence[ImageReference], progress: _Progress, job: ExtractJob, engine: Engine
) -> Iterator[_Chunk]:
    """Read, look up and decode, chunk by chunk; record images that cannot be read as failures."""
    items = progress.watch.waiting("read", read_images(references, job.read))
    height, width = engine.model.input_size
    size = max(engine.batch_size, _CHUNK_BYTES // (height * width * 3) // _ROUND * _ROUND)
    # The first chunk is small, so that reading the next overlaps computing it.
    sizes = chain([min(size, _ROUND)], repeat(size))
    while group := list(islice(items, next(sizes))):
        chunk = _prepare(group, progress, job, engine)
        # Free the encoded bytes before reading the next ones.
        group.clear()
        yield chunk


def _prepare(
    group: Sequence[Result], progress: _Progress, job: ExtractJob, engine: Engine
) -> _Chunk:
    encoded: dict[str, bytes] = {}
    same: dict[str, list[ImageReference]] = {}
    for item in group:
        if isinstance(item, EncodedImage):
            same.setdefault(item.sha256, []).append(item.reference)
            encoded[item.sha256] = item.data
            progress.bytes_read += len(item.data)
        else:
            progress.fail(*item)
    with progress.watch.time("reuse"):
        rows = progress.reuse.find(list(same))
        known = {content for table in rows for content in table["content_sha256"].to_pylist()}
    chunk = _Chunk(same, rows, [], {})
    with progress.watch.time("decode"):
        todo = {content: data for content, data in encoded.items() if content not in known}
        function = DecodeAndResize(job.decode, engine.model.input_size, job.resize)
        for content, result in zip(
            todo, decode_all(list(todo.values()), function, job.cores), strict=True
        ):
            if isinstance(result, ImageError):
                chunk.failed[content] = result
            else:
                chunk.decoded.append(Decoded(same[content][0], result, content))
    return chunk


def _complete(chunk: _Chunk, progress: _Progress, job: ExtractJob, engine: Engine) -> None:
    """Compute the chunk's missing vectors, and make each of its images a row or a failure."""
    if chunk.decoded:
        with progress.watch.time("embed"):
            outputs, failures = embed(engine, [item.image.pixels for item in chunk.decoded])
            chunk.failed.update(
                {chunk.decoded[position].sha256: error for position, error in failures.items()}
            )
            keep = [position for position in range(len(chunk.decoded)) if position not in failures]
            kept = Outputs(outputs.features[keep], outputs.scores[keep], outputs.indices[keep])
            computed = features_table(
                [chunk.decoded[i] for i in keep], kept, engine.model, job.origin
            )
        if computed.num_rows:
            progress.tables.append(computed)
            progress.reuse.remember(computed)
            chunk.rows.append(computed)
    first = {item.sha256 for item in chunk.decoded}
    # Free the pixels before decoding the next ones.
    chunk.decoded.clear()
    copies = []
    for content, references in chunk.same.items():
        if content in chunk.failed:
            for reference in references:
                progress.fail(reference, chunk.failed[content])
        else:
            copies += [(reference, content) for reference in references[content in first :]]
    if copies:
        with progress.watch.time("reuse"):
            progress.tables.append(copy_rows(_joined(chunk.rows), copies, job.origin))
        progress.reused += len(copies)


@dataclass(eq=False)
class ExtractShards(beam.PTransform):  # type: ignore[misc]  # Beam has no types
    """Extract each shard into one part and one receipt, and emit the shard's name.

    One name is emitted for each name received, also when a shard is repeated. Errors outside single
    images (storage, model, self-check) fail the bundle: nothing is emitted for that shard.
    """

    job: ExtractJob

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Build the graph."""
        return shards | "Extract" >> beam.Map(_extract_one, self.job)


def _extract_one(shard: str, job: ExtractJob) -> str:
    return extract_shard(shard, job).shard
