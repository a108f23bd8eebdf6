"""Measure containers: ``python -m benchmarks.containers [PART …]``.

``listing``: list 20,000 members of a tar and a zip on this machine. ``night``: plan a night without
change over 1,000,000 members of 100 tars. ``rates``: extract the same photos as loose files and
from each kind of container. ``store``: the same from a store that answers 50 ms late, loose and in
a tar. ``memory``: extract 10,000 and 100,000 members of one tar.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command import Command, extract_input
from benchmarks.images import PHOTOS as PHOTO_NAMES
from benchmarks.images import crop, load_photo, make_images
from benchmarks.parts import slow_store

ROUNDS = 5
PHOTOS = 1500


def listing(folder: Path) -> None:
    """Print the seconds of listing 20,000 members, the median of five."""
    from transforms.sources import parse_input

    body = os.urandom(30_000)
    names = [f"{n // 1000:03d}/{n:08d}.jpg" for n in range(20_000)]
    _write_tar(folder / "many.tar", [(name, body) for name in names])
    with zipfile.ZipFile(folder / "many.zip", "w") as archive:
        for name in names:
            archive.writestr(name, body)
    for kind, limit in (("tar", 1.0), ("zip", 0.3)):
        source, seconds = parse_input(str(folder / f"many.{kind}")), []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            rows = sum(batch.num_rows for batch in source.list_images())
            seconds.append(time.perf_counter() - start)
            assert rows == len(names)
        print(
            f"list 20,000 members of a {kind}: {statistics.median(seconds):.2f} s (at most {limit})"
        )


def night(folder: Path) -> None:
    """Print the seconds of planning a night without change, and the bytes read of containers."""
    from benchmarks.plan_containers import make_output, plan_again

    shards = folder / "shards"
    shards.mkdir()
    for number in range(100):
        members = [(f"{n:06d}.jpg", b"%06d" % n) for n in range(10_000)]
        _write_tar(shards / f"{number:05d}.tar", members)
    pattern = f"{shards}/{{00000..00099}}.tar"
    make_output(str(folder / "out"), pattern)
    # Whoever would read a container now would fail.
    seconds, summary = plan_again(str(folder / "out"), pattern)
    print(f"plan 1,000,000 members of 100 tars, unchanged: {seconds:.1f} s (at most 10); {summary}")


def rates(folder: Path) -> None:
    """Print the rate from each kind of container, relative to loose files."""
    sources = _pack(folder, make_images(folder / "photos", PHOTOS, "small"))
    _compare(sources, folder / "cache", 0.95)


def store(folder: Path) -> None:
    """Print the rate from a tar in a slow store, relative to loose objects there."""
    photos = make_images(folder / "photos", PHOTOS, "small")
    _write_tar(folder / "photos/all.tar", [(path.name, path.read_bytes()) for path in photos])
    with slow_store(folder / "photos", 0.05) as environment:
        os.environ.update(environment)
        sources = {"loose": "s3://bucket/photos", "tar": "s3://bucket/photos/all.tar"}
        _compare(sources, folder / "cache", 1.0)


def memory(folder: Path) -> None:
    """Print the peak memory of 100,000 members against that of 10,000."""
    photos = [load_photo(name) for name in PHOTO_NAMES]
    bodies = [crop(photos, number, (100, 75)) for number in range(200)]
    peaks = {}
    # The first run exports the network, which takes more memory than the work.
    for count in (100, 10_000, 100_000):
        tar = folder / f"{count}.tar"
        # Bytes after a JPEG's end make the contents differ, so that none is reused.
        _write_tar(tar, ((f"{n:06d}.jpg", bodies[n % 200] + b"%d" % n) for n in range(count)))
        network = ["--backbone", "MobileNetV3Small", "--weights", "random", "--input-size", "32"]
        peaks[count] = extract_input(str(tar), folder / "cache", network).peak_mib
        tar.unlink()
    ratio = peaks[100_000] / peaks[10_000]
    print(f"peak memory of 100,000 / 10,000 members: {ratio:.3f} (at most 1.15); {peaks} MiB")


def _compare(sources: dict[str, str], cache: Path, least: float) -> None:
    seen: dict[str, list[Command]] = {name: [] for name in sources}
    for number in range(ROUNDS + 1):
        for name, source in sources.items():
            done = extract_input(source, cache)
            # The first round exports the network and fills the page cache.
            if number:
                seen[name].append(done)
    for name in list(sources)[1:]:
        pairs = zip(seen["loose"], seen[name], strict=True)
        ratio = statistics.median(loose.seconds / other.seconds for loose, other in pairs)
        seconds = statistics.median(other.seconds for other in seen[name])
        print(f"{name} / loose: {ratio:.3f} (at least {least}); {seconds:.1f} s for {PHOTOS:,}")


def _pack(folder: Path, photos: Sequence[Path]) -> dict[str, str]:
    """Write the photos into a container of each kind, and return all sources."""
    import tensorflow as tf

    members = [(path.name, path.read_bytes()) for path in photos]
    _write_tar(folder / "a.tar", members)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        for _, data in members:
            value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
            features = tf.train.Features(feature={"image/encoded": value})
            writer.write(tf.train.Example(features=features).SerializeToString())
    table = pa.table({"jpg": [data for _, data in members]})
    pq.write_table(table, folder / "a.parquet", row_group_size=500)
    kinds = {kind: str(folder / f"a.{kind}") for kind in ("tar", "zip", "tfrecord", "parquet")}
    return {"loose": str(folder / "photos"), **kinds}


def _write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


PARTS: dict[str, Callable[[Path], None]] = {
    "listing": listing,
    "night": night,
    "rates": rates,
    "store": store,
    "memory": memory,
}


def main() -> None:
    """Run the parts that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.containers", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    for name in parser.parse_args().parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder))


if __name__ == "__main__":
    main()
