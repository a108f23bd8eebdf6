"""What is measured, each as a function of a folder of images: the machine's bounds, and our own job.

A case runs in a process of its own (``benchmarks.child``) and returns images per second, start-up
left out; one that compares things within a process returns several, by name.
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

    def files(self, count: int) -> list[Path]:
        """The first ``count`` images of the folder."""
        return sorted(Path(self.folder).glob("*.jpg"))[:count]

    def config(self, source: str, output: Path) -> Config:
        """The run that does this."""
        return Config.of(
            inputs=(source,),
            output=str(output),
            backbone=self.backbone,
            weights=self.weights,
            engine=self.engine,
            precision=self.precision,
        )

    def engine_of(self) -> Engine:
        """Its network, loaded, from the user's cache of exported ones."""
        from transforms.backbones import BackboneConfig, export, model_id, resolve
        from transforms.engines import EngineConfig, load_engine
        from transforms.engines.models import cached_model

        network = resolve(BackboneConfig(backbone=self.backbone, weights=self.weights))
        folder = cached_model(model_id(network), lambda scratch: export(network, scratch))
        return load_engine(EngineConfig(str(folder), self.engine, self.precision))  # type: ignore[arg-type]


_FEW = 64  # images of the smallest run
# Images of 224×224 that the job computes at a time
_CHUNK = 384


def steady(run: Callable[[int], None], large: int) -> float:
    """Images per second of ``run(count)`` without what it costs to start and to end: a large run less a small one."""
    run(_FEW)  # what is loaded and compiled once
    small = max(
        _FEW,
        large // 8,
        # Long enough to end as the large one does: Beam's sampler sleeps up to 0.2 s
    )
    seconds = {}
    for count in (small, large):
        start = time.perf_counter()
        run(count)
        seconds[count] = time.perf_counter() - start
    return (large - small) / (seconds[large] - seconds[small])


def ours(case: Case) -> float:
    """``pipeline.extract``: from files to the committed table, start-up left out."""
    from pipeline import extract

    with tempfile.TemporaryDirectory() as folder:

        def run(count: int) -> None:
            names = Path(folder, "names")
            names.write_text("\n".join(map(str, case.files(count))), encoding="utf-8")
            config = case.config(f"list:{names}", Path(folder, "out"))
            summary = extract(
                replace(config, rebuild=True, max_removed_rate=1)
            )  # one output: one loaded network
            if summary.embedded != count:
                raise RuntimeError(f"embedded {summary.embedded} of {count}")

        return steady(run, case.count)


def against_bound(case: Case) -> dict[str, float]:
    """Decoding alone and the network alone, before and after the whole job: a machine's speed drifts."""

    def alone() -> tuple[float, float]:
        return decode(replace(case, count=2048)), model(replace(case, count=case.count // 4))

    before, whole, after = alone(), ours(case), alone()
    decoding, computing = map(harmonic_mean, zip(before, after, strict=True))
    return {"decode": decoding, "model": computing, "ours": whole}


def from_disk(case: Case) -> float:
    """A whole folder, listed and read from disk, the network loaded before."""
    return _whole(case, case.folder)


def from_store(case: Case) -> float:
    """The same from the store that the environment points to."""
    return _whole(case, "s3://bucket/photos")


def _whole(case: Case, folder: str) -> float:
    from pipeline import extract

    with tempfile.TemporaryDirectory() as output:
        extract(case.config(f"{folder}/00000[0-7].jpg", Path(output, "warm")))
        start = time.perf_counter()
        summary = extract(case.config(folder, Path(output, "out")))
        return summary.embedded / (time.perf_counter() - start)


def nothing(case: Case) -> float:
    """The same without reading, decoding and computing: what Beam, tables and receipts cost."""
    import transforms.extract as stages
    from transforms.decode.image import DecodedImage
    from transforms.engines import Outputs
    from transforms.read import EncodedImage

    picture = DecodedImage(np.zeros((224, 224, 3), np.uint8), "JPEG", 500, 375)
    vectors = np.random.default_rng(0).standard_normal((8192, 1280), np.float32)

    def read(references: Iterable[ImageReference], _: object) -> Iterator[EncodedImage]:
        return (
            EncodedImage(reference, b"", reference.uri) for reference in references
        )  # all different

    def decode(encoded: Sequence[EncodedImage], *_: object) -> Iterator[DecodedImage]:
        return (picture for _ in encoded)

    def compute(_: object, images: Images) -> tuple[Outputs, dict[int, ImageError]]:
        count = len(images)
        return Outputs(
            vectors[:count], np.ones((count, 5), np.float32), np.zeros((count, 5), np.int32)
        ), {}

    for name, stage in (("read_images", read), ("decode_all", decode), ("embed", compute)):
        setattr(stages, name, stage)
    return ours(case)


def decode(case: Case) -> float:
    """Decoding and resizing from memory on all cores, for the network's input size."""
    from transforms.allocator import share_one_heap
    from transforms.backbones import BackboneConfig, resolve
    from transforms.decode.image import DecodePolicy
    from transforms.decode.pool import DecodeAndResize, decode_all

    # As every worker does.
    share_one_heap()
    size = resolve(BackboneConfig(backbone=case.backbone, weights=case.weights)).input_size
    encoded = [path.read_bytes() for path in case.files(case.count)]
    function = DecodeAndResize(DecodePolicy(), size, "squash")

    def run(count: int) -> None:
        for _ in decode_all(encoded[:count], function):
            pass

    return steady(run, case.count)


def decode_one_core(case: Case) -> float:
    """The same on one core, as Pillow's own decode and resize is measured."""
    from transforms.allocator import keep_freed_memory, share_one_heap
    from transforms.decode.image import DecodePolicy
    from transforms.decode.pool import DecodeAndResize

    # As every worker does.
    share_one_heap()
    keep_freed_memory()
    function = DecodeAndResize(DecodePolicy(), (224, 224), "squash")
    return _one_by_one(case, function)


def pillow_one_core(case: Case) -> float:
    """Pillow's full decode and antialiased bilinear resize on one core."""
    import io

    from PIL import Image

    def function(data: bytes) -> None:
        with Image.open(io.BytesIO(data)) as image:
            np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))

    return _one_by_one(case, function)


def _one_by_one(case: Case, function: Callable[[bytes], object]) -> float:
    encoded = [path.read_bytes() for path in case.files(case.count)]
    function(encoded[0])
    # Of the core: what others do on it meanwhile does not count
    start = time.thread_time()
    for data in encoded:
        function(data)
    return len(encoded) / (time.thread_time() - start)


def model(case: Case) -> float:
    """The network alone, on pixels in memory, in chunks as large as the job's."""
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
