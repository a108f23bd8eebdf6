"""Extract: a shard of image references → one part of the features table, and a receipt.

The shard is the atom of work: one worker reads, decodes, embeds and writes it. Only its name and its receipt
cross a Beam stage, never bytes, pixels or vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import islice

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


@dataclass(slots=True)
class _Progress:
    """What a shard has come to so far."""

    tables: list[pa.Table] = field(default_factory=list)
    failures: list[FailureRow] = field(default_factory=list)
    bytes_read: int = 0

    def fail(self, reference: ImageReference, error: ImageError) -> None:
        modified = round(reference.modified.timestamp() * 1e6) if reference.modified else None
        what = (error.stage, error.kind.word, error.message)
        self.failures.append(FailureRow(reference.uri, reference.etag, reference.size, modified, *what))


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
    watch = Stopwatch()
    progress = _Progress()
    references = read_shard(output, f"{job.run_folder}/plan/{shard}.parquet")
    items = watch.waiting("read", read_images(references, job.read))
    height, width = engine.model.input_size
    chunk = max(engine.batch_size, _CHUNK_BYTES // (height * width * 3))
    while group := list(islice(items, chunk)):
        _embed_chunk(group, progress, job, engine, watch)
    part = None
    if progress.tables:
        with watch.time("write"):
            table = pa.concat_tables(progress.tables)
            part = write_part(output, table, "features", f"part-{job.run_id}-{shard}", job.recipe)
    return Receipt(shard, len(references), part, tuple(progress.failures), progress.bytes_read, watch.seconds)


def _embed_chunk(
    group: Sequence[EncodedImage | tuple[ImageReference, ImageError]],
    progress: _Progress,
    job: ExtractJob,
    engine: Engine,
    watch: Stopwatch,
) -> None:
    """Decode, then compute: on a CPU the two in turn, each with all cores.

    Overlapped they steal each other's caches and cores: 146 images/s against 183-204 in turn on two cores.
    """
    encoded = []
    for item in group:
        if isinstance(item, EncodedImage):
            encoded.append(item)
            progress.bytes_read += len(item.data)
        else:
            progress.fail(*item)
    decoded = []
    with watch.time("decode"):
        size = engine.model.input_size
        results = decode_all(encoded, DecodeAndResize(job.decode, size, job.resize), job.cores)
        for source, result in zip(encoded, results, strict=True):
            if isinstance(result, ImageError):
                progress.fail(source.reference, result)
            else:
                decoded.append(result)
        if not decoded:
            return
        pixels = np.stack([item.image.pixels for item in decoded])
    with watch.time("embed"):
        outputs, failures = embed(engine, pixels)
    for position, error in failures.items():
        progress.fail(decoded[position].reference, error)
    keep = [i for i in range(len(decoded)) if i not in failures]
    if keep:
        kept = Outputs(outputs.features[keep], outputs.scores[keep], outputs.indices[keep])
        origin = Origin(recipe_id(job.recipe), job.run_id, job.started_at)
        progress.tables.append(features_table([decoded[i] for i in keep], kept, engine.model, origin))


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
    encoded: Sequence[EncodedImage], function: DecodeAndResize, cores: int | None = None
) -> Iterator[Decoded | ImageError]:
    """Decode on ``cores`` (None: all), in the order of ``encoded``; a bad image gives its error."""

    def decode_one(item: EncodedImage) -> Decoded | ImageError:
        try:
            return Decoded(item.reference, function(item.data), hashlib.sha256(item.data).hexdigest())
        except ImageError as error:
            return error

    return _decoders(cores or available_cores()).map(decode_one, encoded)


@cache
def _decoders(cores: int) -> ThreadPoolExecutor:
    """One pool a process: decoding in C and Rust releases the GIL, and all shards here share the cores."""
    return ThreadPoolExecutor(cores, thread_name_prefix="decode")
