"""Extract: a shard of image references → one part of the features table, and a receipt.

The shard is the atom of work: one worker reads, decodes, embeds and writes it. Only its name and its receipt
cross a Beam stage, never bytes, pixels or vectors.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.decode import DecodedImage, DecodePolicy, decode
from transforms.embed import embed
from transforms.engines import Engine, EngineConfig, EngineName, Outputs, Precision, load_engine
from transforms.engines.base import available_cores
from transforms.errors import ImageError
from transforms.models import load_model
from transforms.preprocess import ResizeMode, image_chain
from transforms.read import EncodedImage, ReadPolicy, read_images
from transforms.recipe import Recipe, recipe_id
from transforms.records import ImageReference
from transforms.rows import Decoded, Origin, features_table
from transforms.stopwatch import Stopwatch
from transforms.storage import Storage, open_storage
from transforms.write import FailureRow, Receipt, decode_receipt, encode_receipt, write_part

_T = TypeVar("_T")
Failed = tuple[ImageReference, ImageError]
_CHUNK_BYTES = 64 << 20  # pixels held at once: 445 images of 224×224


@dataclass(frozen=True, slots=True)
class ExtractJob:
    """Everything a worker has to know; small, and pickled with the graph."""

    output: str
    run_id: str
    started_at: datetime  # UTC; the ``extracted_at`` of all rows, so that a shard done twice gives equal files
    recipe: Recipe
    model_id: str  # folder of the exported network under ``models/``
    resize: ResizeMode = "squash"
    engine: EngineName = "auto"
    precision: Precision = "float32"
    cores: int | None = None  # for each worker process; None: all that it may use
    decode: DecodePolicy = field(default_factory=DecodePolicy)
    read: ReadPolicy = field(default_factory=ReadPolicy)

    @property
    def run_folder(self) -> str:
        """The run's folder in the output."""
        return f"runs/{self.run_id}"


def extract_shard(shard: str, job: ExtractJob) -> Receipt:
    """Do the shard, or return the receipt that it was done with. Doing it twice, even at once, is harmless."""
    output = open_storage(job.output)
    receipt_key = f"{job.run_folder}/receipts/{shard}.json"
    if output.exists(receipt_key):
        return decode_receipt(output.read(receipt_key))
    model = load_model(output, job.model_id)
    engine = load_engine(EngineConfig(str(model), job.engine, job.precision, job.cores))
    receipt = _extract(shard, job, engine, output)
    if not output.write_if_absent(receipt_key, encode_receipt(receipt)):
        return decode_receipt(output.read(receipt_key))  # another worker was first: its part counts
    return receipt


def _extract(shard: str, job: ExtractJob, engine: Engine, output: Storage) -> Receipt:
    references = read_shard(output, f"{job.run_folder}/plan/{shard}.parquet")
    work = _Work(job, engine)
    chunks = work.decode(references)
    for chunk in ahead(chunks) if engine.overlaps else chunks:
        work.embed(chunk)
    part = None
    if work.tables:
        with work.watch.time("write"):
            table = pa.concat_tables(work.tables)
            part = write_part(output, table, "features", f"part-{job.run_id}-{shard}", job.recipe)
    return Receipt(shard, len(references), part, tuple(work.failures), work.bytes_read, work.watch.seconds)


class _Work:
    """A shard under way: what it has come to so far."""

    def __init__(self, job: ExtractJob, engine: Engine) -> None:
        self.tables: list[pa.Table] = []
        self.failures: list[FailureRow] = []
        self.bytes_read = 0
        self.watch = Stopwatch()
        self._job = job
        self._engine = engine
        self._origin = Origin(recipe_id(job.recipe), job.run_id, job.started_at)
        height, width = engine.model.input_size
        self._chunk = max(engine.batch_size, _CHUNK_BYTES // (height * width * 3))

    def decode(self, references: Sequence[ImageReference]) -> Iterator[list[Decoded]]:
        """Read and decode, chunk by chunk; images that cannot be become failures."""
        function = DecodeAndResize(self._job.decode, self._engine.model.input_size, self._job.resize)
        encoded = self.watch.waiting("read", read_images(references, self._job.read))
        decoded = self._passed(decode_all(encoded, function, self._job.cores))
        while True:
            with self.watch.time("decode", without="read"):
                chunk = list(islice(decoded, self._chunk))
            if not chunk:
                return
            yield chunk

    def _passed(self, results: Iterable[Decoded | Failed]) -> Iterator[Decoded]:
        for result in results:
            if isinstance(result, Decoded):
                self.bytes_read += result.reference.size
                yield result
            else:
                self._fail(*result)

    def embed(self, chunk: Sequence[Decoded]) -> None:
        """Compute the chunk's vectors and labels, and keep its rows."""
        with self.watch.time("embed"):
            outputs, failures = embed(self._engine, np.stack([item.image.pixels for item in chunk]))
            for position, error in failures.items():
                self._fail(chunk[position].reference, error)
            keep = [i for i in range(len(chunk)) if i not in failures]
            if keep:
                kept = Outputs(outputs.features[keep], outputs.scores[keep], outputs.indices[keep])
                self.tables.append(features_table([chunk[i] for i in keep], kept, self._engine.model, self._origin))

    def _fail(self, reference: ImageReference, error: ImageError) -> None:
        modified = round(reference.modified.timestamp() * 1e6) if reference.modified else None
        what = (error.stage, error.kind.word, error.message)
        self.failures.append(FailureRow(reference.uri, reference.etag, reference.size, modified, *what))


def ahead(items: Iterator[_T]) -> Iterator[_T]:
    """Pass ``items`` on, the next one being made in a thread while its predecessor is used.

    For a GPU, which leaves the cores to decoding. On a CPU the two steal each other's cores and caches: overlapped
    146 images/s, in turn 183-204, on two cores.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def read_shard_table(output: Storage, key: str) -> pa.Table:
    """The image references of a shard, REFERENCE_SCHEMA."""
    return pq.read_table(pa.BufferReader(output.read(key)))


def read_shard(output: Storage, key: str) -> list[ImageReference]:
    """The image references of a shard."""
    table = read_shard_table(output, key)
    columns = (table[name].to_pylist() for name in ("uri", "etag", "size", "modified"))
    return [ImageReference(*row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True, slots=True)
class DecodeAndResize:
    """Encoded bytes → pixels at the network's input size."""

    policy: DecodePolicy
    size: tuple[int, int]  # height, width
    resize: ResizeMode

    def __call__(self, data: bytes) -> DecodedImage:
        """Decode one image: uint8 [*size, 3]. Raises ``ImageError``."""
        image = decode(data, self.policy, self.size)
        pixels = image_chain(self.size, self.resize)(image.pixels)
        return DecodedImage(pixels, image.format, image.width, image.height)


def decode_all(
    encoded: Iterable[EncodedImage | Failed], function: DecodeAndResize, cores: int | None = None
) -> Iterator[Decoded | Failed]:
    """Decode on ``cores`` (None: all), in the order of ``encoded``; failures, also those before, are passed on.

    Takes only a few images more than it has given back, so that encoded ones do not pile up.
    """

    def decode_one(item: EncodedImage | Failed) -> Decoded | Failed:
        if not isinstance(item, EncodedImage):
            return item
        try:
            return Decoded(item.reference, function(item.data), hashlib.sha256(item.data).hexdigest())
        except ImageError as error:
            return item.reference, error

    cores = cores or available_cores()
    pool, waiting = _decoders(cores), deque[Future[Decoded | Failed]]()
    for item in encoded:
        waiting.append(pool.submit(decode_one, item))
        if len(waiting) > 8 * cores:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@cache
def _decoders(cores: int) -> ThreadPoolExecutor:
    """One pool a process: decoding in C and Rust releases the GIL, and all shards here share the cores."""
    return ThreadPoolExecutor(cores, thread_name_prefix="decode")
