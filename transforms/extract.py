"""Extract a shard of image references into one part and one receipt for each target.

The shard is the unit of work: one worker reads, decodes, embeds and writes it. Only its name and
its receipts cross a Beam stage, never bytes, pixels or vectors. All targets share the bytes of an
image, and the pixels where their networks take the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from threading import Lock

from transforms.allocator import share_one_heap
from transforms.decode.pool import DecodeAndResize, decode_all
from transforms.errors import ImageError
from transforms.parts.rows import Decoded
from transforms.parts.write import Receipt, decode_receipt, encode_receipt, read_receipt
from transforms.prefetch import prefetch
from transforms.read import EncodedImage, Result, read_images
from transforms.shards import read_shard
from transforms.stopwatch import Stopwatch
from transforms.storage import Storage, open_storage
from transforms.targets import ExtractJob, Target
from transforms.work import Chunk, Work, complete, copy_known, start, write

__all__ = ["ExtractJob", "Target", "extract_shard"]

# Bytes of pixels held at once: 384 images of 224×224.
_CHUNK_BYTES = 64 << 20
# Chunks are multiples of this, or of a larger batch: only the last one's end is padded.
_ROUND = 64
# Held while a CPU decodes and computes a group of images: another shard of the same process reads
# or writes meanwhile, and does not compete for the cores and their caches.
_COMPUTING = Lock()
# What was read of an image, and the targets that it is for.
_Image = tuple[Result, list[Work]]


def extract_shard(shard: str, job: ExtractJob) -> tuple[Receipt, ...]:
    """Extract a shard for each target that lacks its receipt, and return all receipts.

    A target for which the shard holds no image gets none. Extracting a shard twice, even at the
    same time, is harmless.

    Raises:
        StorageError: If the output cannot be read or written.
    """
    share_one_heap()
    output = open_storage(job.output, job.stores)
    receipts = {target.folder: _done(target.receipt_key(shard), output) for target in job.targets}
    missing = [target for target in job.targets if not receipts[target.folder]]
    for target, receipt in _extract(shard, job, missing, output) if missing else ():
        key = target.receipt_key(shard)
        first = output.write_if_absent(key, encode_receipt(receipt))
        # If another worker was first, its part counts.
        receipts[target.folder] = receipt if first else decode_receipt(output.read(key))
    return tuple(receipt for receipt in receipts.values() if receipt)


def _done(key: str, output: Storage) -> Receipt | None:
    """Return a receipt that exists; delete one that cannot be read."""
    if not output.exists(key):
        return None
    receipt = read_receipt(output, key)
    if receipt is None:
        output.delete(key)
    return receipt


def _extract(
    shard: str, job: ExtractJob, targets: Sequence[Target], output: Storage
) -> list[tuple[Target, Receipt]]:
    references = read_shard(output, f"{job.run_folder}/plan/{shard}.parquet")
    works: list[Work] = []
    to_read: dict[int, list[Work]] = {}
    for target in targets:
        own = [place for place, reference in enumerate(references) if target.wants(reference)]
        if own:
            works.append(start(target, len(own), job, output))
            for place in copy_known(references, own, works[-1]):
                to_read.setdefault(place, []).append(works[-1])
    shared = Stopwatch()
    places = sorted(to_read)
    images = shared.waiting("read", read_images([references[i] for i in places], job.read))
    groups = _groups(zip(images, [to_read[i] for i in places], strict=True), works)
    if any(work.engine.accelerated for work in works):
        for chunks in prefetch(_prepare(group, works, shared, job) for group in groups):
            _complete(chunks, works)
    else:
        for group in groups:
            with _COMPUTING:
                _complete(_prepare(group, works, shared, job), works)
    for work in works:
        for stage, seconds in shared.seconds.items():
            work.watch.add(stage, seconds / len(works))
    return [(work.target, write(shard, work, job, output)) for work in works]


def _groups(images: Iterator[_Image], works: Sequence[Work]) -> Iterator[list[_Image]]:
    """Yield the images of the shard, as many at once as may be in memory decoded."""
    pixels = sum(3 * height * width for height, width in {work.decode.size for work in works})
    batch = max((work.engine.batch_size for work in works), default=1)
    whole = max(batch, _ROUND)
    size = max(whole, _CHUNK_BYTES // max(pixels, 1) // whole * whole)
    # The first chunk is small, so that reading the next overlaps computing it.
    sizes = chain([min(size, _ROUND)], repeat(size))
    while group := list(islice(images, next(sizes))):
        yield group


def _prepare(
    group: list[_Image], works: Sequence[Work], shared: Stopwatch, job: ExtractJob
) -> list[Chunk]:
    """Look up and decode some images; record those that could not be read as failures.

    Args:
        group: The images; the list is emptied, to free their bytes before others are read.
        works: All targets.
        shared: Takes the time of decoding.
        job: The run.

    Returns:
        One chunk for each of ``works``.
    """
    encoded: dict[str, bytes] = {}
    chunks = [Chunk() for _ in works]
    by_work = dict(zip(map(id, works), chunks, strict=True))
    for item, needed in group:
        for work in needed:
            if isinstance(item, EncodedImage):
                by_work[id(work)].same.setdefault(item.sha256, []).append(item.reference)
                encoded[item.sha256] = item.data
                work.bytes_read += len(item.data)
            else:
                work.fail(*item)
    group.clear()
    todo: dict[str, dict[DecodeAndResize, list[Chunk]]] = {}
    for work, chunk in zip(works, chunks, strict=True):
        with work.watch.time("reuse"):
            chunk.rows.extend(work.reuse.find(list(chunk.same)))
            known = {sha for table in chunk.rows for sha in table["content_sha256"].to_pylist()}
        for content in chunk.same:
            if content not in known:
                todo.setdefault(content, {}).setdefault(work.decode, []).append(chunk)
    with shared.time("decode"):
        _decode([(content, encoded[content], wanted) for content, wanted in todo.items()], job)
    return chunks


def _complete(chunks: Sequence[Chunk], works: Sequence[Work]) -> None:
    for work, chunk in zip(works, chunks, strict=True):
        complete(chunk, work)


def _decode(
    todo: Sequence[tuple[str, bytes, dict[DecodeAndResize, list[Chunk]]]], job: ExtractJob
) -> None:
    """Decode each content once for all chunks that want it, and give them the pixels."""
    files = [(data, tuple(wanted)) for _, data, wanted in todo]
    for (content, _, wanted), results in zip(todo, decode_all(files, job.cores), strict=True):
        for result, chunks in zip(results, wanted.values(), strict=True):
            for chunk in chunks:
                if isinstance(result, ImageError):
                    chunk.failed[content] = result
                else:
                    chunk.decoded.append(Decoded(chunk.same[content][0], result, content))
