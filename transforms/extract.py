"""Extract: a shard of image references → one part of the features table, and a receipt.

The shard is the atom of work: one worker reads, decodes, embeds and writes it. Only its name and its receipt
cross a Beam stage, never bytes, pixels or vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
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
from transforms.reuse import Reuse, copy_rows
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
    index_key: str | None = None  # of the index of the vectors that there are, see ``transforms.reuse``

    @property
    def origin(self) -> Origin:
        """What all rows of the run have in common."""
        return Origin(recipe_id(self.recipe), self.run_id, self.started_at)

    @property
    def run_folder(self) -> str:
        """The run's folder in the output."""
        return f"runs/{self.run_id}"


@dataclass(slots=True)
class _Progress:
    """What a shard has come to so far."""

    reuse: Reuse
    watch: Stopwatch = field(default_factory=Stopwatch)
    tables: list[pa.Table] = field(default_factory=list)
    failures: list[FailureRow] = field(default_factory=list)
    bytes_read: int = 0
    reused: int = 0

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
    progress = _Progress(Reuse(output, job.index_key))
    watch = progress.watch
    references = read_shard(output, f"{job.run_folder}/plan/{shard}.parquet")
    items = watch.waiting("read", read_images(references, job.read))
    height, width = engine.model.input_size
    chunk = max(engine.batch_size, _CHUNK_BYTES // (height * width * 3))
    while group := list(islice(items, chunk)):
        _do_chunk(group, progress, job, engine)
    part = None
    if progress.tables:
        with watch.time("write"):
            table = pa.concat_tables(progress.tables)
            part = write_part(output, table, "features", f"part-{job.run_id}-{shard}", job.recipe)
    failures = tuple(progress.failures)
    return Receipt(shard, len(references), part, failures, progress.bytes_read, watch.seconds, progress.reused)


def _do_chunk(
    group: Sequence[EncodedImage | tuple[ImageReference, ImageError]],
    progress: _Progress,
    job: ExtractJob,
    engine: Engine,
) -> None:
    """Turn each image of the group into a row or a failure: one computed vector for all images of equal bytes."""
    same: dict[str, list[EncodedImage]] = {}
    with progress.watch.time("decode"):
        encoded = [item for item in group if isinstance(item, EncodedImage)]
        for item, content in zip(encoded, hash_all(encoded, job.cores), strict=True):
            same.setdefault(content, []).append(item)
            progress.bytes_read += len(item.data)
    for unread in group:
        if not isinstance(unread, EncodedImage):
            progress.fail(*unread)
    with progress.watch.time("reuse"):
        rows = progress.reuse.find(list(same))
    known = {content for table in rows for content in table["content_sha256"].to_pylist()}
    computed, failed = _compute({c: items[0] for c, items in same.items() if c not in known}, progress, job, engine)
    for content, error in failed.items():
        for item in same[content]:
            progress.fail(item.reference, error)
    if computed is not None:
        progress.tables.append(computed)
        progress.reuse.remember(computed)
        rows.append(computed)
    copies = [
        (item.reference, content)
        for content, items in same.items()
        if content not in failed
        for item in (items if content in known else items[1:])
    ]
    if copies:
        with progress.watch.time("reuse"):
            progress.tables.append(copy_rows(pa.concat_tables(rows), copies, job.origin))
        progress.reused += len(copies)


def _compute(
    images: Mapping[str, EncodedImage], progress: _Progress, job: ExtractJob, engine: Engine
) -> tuple[pa.Table | None, dict[str, ImageError]]:
    """Images by the sha256 of their content → rows (features schema) of some, and why the others have none.

    Decodes, then computes: on a CPU the two in turn, each with all cores. Overlapped they steal each other's
    caches and cores: 146 images/s against 183-204 in turn on two cores.
    """
    decoded: list[Decoded] = []
    failed: dict[str, ImageError] = {}
    with progress.watch.time("decode"):
        function = DecodeAndResize(job.decode, engine.model.input_size, job.resize)
        results = decode_all(list(images.values()), function, job.cores)
        for (content, source), result in zip(images.items(), results, strict=True):
            if isinstance(result, ImageError):
                failed[content] = result
            else:
                decoded.append(Decoded(source.reference, result, content))
        if not decoded:
            return None, failed
        pixels = np.stack([item.image.pixels for item in decoded])
    with progress.watch.time("embed"):
        outputs, failures = embed(engine, pixels)
    failed |= {decoded[position].sha256: error for position, error in failures.items()}
    keep = [position for position in range(len(decoded)) if position not in failures]
    if not keep:
        return None, failed
    kept = Outputs(outputs.features[keep], outputs.scores[keep], outputs.indices[keep])
    return features_table([decoded[position] for position in keep], kept, engine.model, job.origin), failed


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
) -> Iterator[DecodedImage | ImageError]:
    """Decode on ``cores`` (None: all), in the order of ``encoded``; a bad image gives its error."""

    def decode_one(item: EncodedImage) -> DecodedImage | ImageError:
        try:
            return function(item.data)
        except ImageError as error:
            return error

    return _decoders(cores or available_cores()).map(decode_one, encoded)


def hash_all(encoded: Sequence[EncodedImage], cores: int | None = None) -> Iterator[str]:
    """The sha256 of each image's bytes, 64 hexadecimal digits, in the order of ``encoded``."""
    pool = _decoders(cores or available_cores())
    return pool.map(lambda item: hashlib.sha256(item.data).hexdigest(), encoded)


@cache
def _decoders(cores: int) -> ThreadPoolExecutor:
    """One pool a process: decoding in C and Rust releases the GIL, and all shards here share the cores."""
    return ThreadPoolExecutor(cores, thread_name_prefix="decode")
