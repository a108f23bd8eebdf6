"""Measure the bounds of the machine and our own job, each case on a folder of images.

A case runs in a process of its own (``benchmarks.child``) and returns images per second without
start-up. A case that compares several things within a process returns several rates, by name.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import harmonic_mean
from typing import TYPE_CHECKING

import numpy as np

from pipeline import Config
from transforms.choices import BackboneConfig

if TYPE_CHECKING:
    from transforms.engines import Engine
    from transforms.engines.base import Images
    from transforms.errors import ImageError
    from transforms.records import ImageReference


@dataclass(frozen=True, slots=True)
class Case:
    """What to measure: ``kind`` is a name of ``KINDS`` or ``benchmarks.peers.PEERS``."""

    kind: str
    folder: str
    count: int = 256  # images of the large run
    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    engine: str = "openvino"
    precision: str = "float32"
    # Of a model that does not say it itself.
    preprocess: str | None = None

    @property
    def network(self) -> BackboneConfig:
        """The options of the network."""
        return BackboneConfig(self.backbone, self.weights, preprocess=self.preprocess)

    def files(self, count: int) -> list[Path]:
        """Return the first ``count`` images of the folder."""
        return sorted(Path(self.folder).glob("*.jpg"))[:count]

    def config(self, source: str, output: Path) -> Config:
        """Return the options of a run of this case."""
        return Config.of(
            inputs=(source,),
            output=str(output),
            network=self.network,
            engine=self.engine,
            precision=self.precision,
        )

    def engine_folder(self) -> Path:
        """Return the exported network of the engine, in the user's cache."""
        from transforms.backbones import resolve
        from transforms.backbones.exported import exported

        *_, folder = exported(resolve(self.network), self.engine == "xla").values()
        return folder

    def engine_of(self) -> Engine:
        """Load the network from the user's cache of exported networks."""
        from transforms.engines import EngineConfig, load_engine

        folder = str(self.engine_folder())
        return load_engine(EngineConfig(folder, self.engine, self.precision))  # type: ignore[arg-type]


_FEW = 64  # images of the smallest run
# The number of images of 224×224 that the job computes at a time.
_CHUNK = 384


def steady(run: Callable[[int], None], large: int) -> float:
    """Return images per second without start and end: of a large run less a small one.

    Args:
        run: Processes a number of images.
        large: The number of images of the large run.
    """
    # The first run loads and compiles.
    run(_FEW)
    # The small run must be long enough to end like the large one: Beam's sampler sleeps for up to
    # 0.2 s.
    small = max(_FEW, large // 8)
    seconds = {}
    for count in (small, large):
        start = time.perf_counter()
        run(count)
        seconds[count] = time.perf_counter() - start
    return (large - small) / (seconds[large] - seconds[small])


def ours(case: Case) -> float:
    """Measure ``pipeline.extract`` from files to the committed table, without start-up."""
    from pipeline import extract

    with tempfile.TemporaryDirectory() as folder:

        def run(count: int) -> None:
            names = Path(folder, "names")
            names.write_text("\n".join(map(str, case.files(count))), encoding="utf-8")
            config = case.config(f"list:{names}", Path(folder, "out"))
            # All runs have the same output, so that the network is loaded only once.
            summary = extract(replace(config, rebuild=True, max_removed_rate=1))
            if summary.embedded != count:
                raise RuntimeError(f"embedded {summary.embedded} of {count}")

        return steady(run, case.count)


def against_bound(case: Case) -> dict[str, float]:
    """Measure decoding alone and the network alone, before and after the whole job.

    A machine's speed drifts, so the harmonic mean of both counts.
    """

    def alone() -> tuple[float, float]:
        return decode(replace(case, count=2048)), model(replace(case, count=case.count // 4))

    before, whole, after = alone(), ours(case), alone()
    decoding, computing = map(harmonic_mean, zip(before, after, strict=True))
    return {"decode": decoding, "model": computing, "ours": whole}


def from_disk(case: Case) -> float:
    """Measure a whole folder, listed and read from disk, with the network loaded before."""
    return _whole(case, case.folder)


def from_store(case: Case) -> float:
    """Measure the same from the store that the environment points to."""
    return _whole(case, "s3://bucket/photos")


def _whole(case: Case, folder: str) -> float:
    from pipeline import extract

    with tempfile.TemporaryDirectory() as output:
        extract(case.config(f"{folder}/00000[0-7].jpg", Path(output, "warm")))
        start = time.perf_counter()
        summary = extract(case.config(folder, Path(output, "out")))
        return summary.embedded / (time.perf_counter() - start)


def nothing(case: Case) -> float:
    """Measure a job without reading, decoding and computing: Beam, tables and receipts alone."""
    import transforms.extract as stages
    import transforms.work
    from transforms.decode.pool import PreparedImage
    from transforms.engines import Outputs
    from transforms.read import EncodedImage

    picture = PreparedImage(np.zeros((224, 224, 3), np.uint8), "JPEG", 500, 375, 0)
    vectors = np.random.default_rng(0).standard_normal((8192, 1280), np.float32)

    def read(references: Iterable[ImageReference], _: object) -> Iterator[EncodedImage]:
        # Each image has another digest, so that none shares a vector.
        return (EncodedImage(reference, b"", reference.uri) for reference in references)

    def decode(images: Sequence[object], *_: object) -> Iterator[list[PreparedImage]]:
        return ([picture] for _ in images)

    def compute(_: object, images: Images) -> tuple[Outputs, dict[int, ImageError]]:
        count = len(images)
        return Outputs(
            vectors[:count], np.ones((count, 5), np.float32), np.zeros((count, 5), np.int32)
        ), {}

    for module, name, stage in (
        (stages, "read_images", read),
        (stages, "decode_all", decode),
        (transforms.work, "embed", compute),
    ):
        setattr(module, name, stage)
    return ours(case)


def decode(case: Case) -> float:
    """Measure decoding and resizing from memory on all cores, to the network's input size."""
    from transforms.allocator import share_one_heap
    from transforms.backbones import resolve
    from transforms.backbones.model_json import resize_of
    from transforms.decode.image import DecodePolicy
    from transforms.decode.pool import DecodeAndResize, decode_all

    # As every worker does.
    share_one_heap()
    network = resolve(case.network)
    encoded = [path.read_bytes() for path in case.files(case.count)]
    function = DecodeAndResize(DecodePolicy(), network.input_size, resize_of(network, None))

    def run(count: int) -> None:
        for _ in decode_all([(data, (function,)) for data in encoded[:count]]):
            pass

    return steady(run, case.count)


def decode_one_core(case: Case) -> float:
    """Measure decoding and resizing on one core, in the same way as Pillow's."""
    from transforms.allocator import keep_freed_memory, share_one_heap
    from transforms.decode.image import DecodePolicy
    from transforms.decode.pool import DecodeAndResize

    # Every worker does both.
    share_one_heap()
    keep_freed_memory()
    function = DecodeAndResize(DecodePolicy(), (224, 224), "squash")
    return _one_by_one(case, function)


def pillow_one_core(case: Case) -> float:
    """Measure Pillow's full decode and antialiased bilinear resize on one core."""
    import io

    from PIL import Image

    def function(data: bytes) -> None:
        with Image.open(io.BytesIO(data)) as image:
            np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))

    return _one_by_one(case, function)


def _one_by_one(case: Case, function: Callable[[bytes], object]) -> float:
    encoded = [path.read_bytes() for path in case.files(case.count)]
    function(encoded[0])
    # This thread's time leaves out what others do on the core meanwhile.
    start = time.thread_time()
    for data in encoded:
        function(data)
    return len(encoded) / (time.thread_time() - start)


def model(case: Case) -> float:
    """Measure the network alone, on pixels in memory, in chunks as large as the job's."""
    engine = case.engine_of()
    pixels = np.random.default_rng(0).integers(
        0, 256, (_CHUNK, *engine.model.input_size, 3), np.uint8
    )

    def run(count: int) -> None:
        for start in range(0, count, _CHUNK):
            engine.run(pixels[: count - start])

    return steady(run, case.count)


KINDS: dict[str, Callable[[Case], float | dict[str, float]]] = {
    "ours": ours,
    "against_bound": against_bound,
    "from_disk": from_disk,
    "from_store": from_store,
    "nothing": nothing,
    "decode": decode,
    "model": model,
    "decode_one_core": decode_one_core,
    "pillow_one_core": pillow_one_core,
}
