"""Check a GPU: vectors in each precision, images a second, memory. One table, and JSON.

``gpu_check.sh`` of the bundle runs it. It needs no network; of this project ``transforms``; and
NumPy, Pillow, JAX, simplejpeg and cykooz-resizer.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
from PIL import Image

from benchmarks.images import PHOTOS, SIZES, crop
from transforms.choices import Precision
from transforms.decode.image import DecodePolicy
from transforms.decode.pool import DecodeAndResize, PreparedImage, decode_all
from transforms.engines import MIN_COSINE, Engine, EngineConfig, cosine, load_engine, unload_engines
from transforms.engines.base import STABLEHLO, available_cores
from transforms.engines.xla_engine import import_jax
from transforms.errors import first_line
from transforms.prefetch import prefetch

# What the weights of a network are made of, in its folder.
GIVEN = "given.npz"
_ROUNDS = 3
_CHUNK = 256


@dataclass(slots=True)
class Measured:
    """A network in one precision; rates are images a second."""

    network: str
    precision: Precision
    cosine: float = float("nan")  # the least of the golden batch
    batch: int = 0
    load_seconds: float = 0.0
    model: float = 0.0
    # By the number of threads that decode.
    end_to_end: dict[int, float] = field(default_factory=dict)
    device_mib: int | None = None  # most that was taken; None where JAX does not say
    host_mib: int = 0
    problem: str = ""


def main() -> int:
    """Measure all networks in all precisions; return 0 if every vector is right."""
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description=__doc__)
    parser.add_argument("bundle", type=Path, help="the unpacked bundle")
    parser.add_argument("--network", action="append", help="only this one; may be repeated")
    parser.add_argument("--precision", action="append", choices=get_args(Precision))
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--require-accelerator", action="store_true")
    arguments = parser.parse_args()
    device = import_jax().local_devices()[0]
    place = f"{device.device_kind} ({device.platform}), {available_cores()} cores"
    print(f"{place}; {device.client.platform_version}".splitlines()[0], flush=True)
    if arguments.require_accelerator and device.platform == "cpu":
        print("--require-accelerator: JAX sees no GPU and no TPU")
        return 1
    folders = sorted((arguments.bundle / "networks").iterdir())
    names = arguments.network or [folder.name for folder in folders]
    precisions: Sequence[Precision] = arguments.precision or get_args(Precision)
    photos = _photos(arguments.bundle / "photos", arguments.photos)
    rows = []
    for name in names:
        for precision in precisions:
            rows.append(
                measure(arguments.bundle / "networks" / name, precision, photos, arguments.threads)
            )
            arguments.json.write_text(
                json.dumps({"device": place, "rows": [asdict(row) for row in rows]}, indent=1)
            )
    print(table(rows, arguments.threads))
    return 1 if any(row.problem for row in rows) else 0


def made_weights(folder: Path) -> list[np.ndarray]:
    """Return the weights of a network, float32 each: stored ones, and others by a seed.

    The stream of ``RandomState`` is frozen for good, so they are the same on every machine.
    """
    with np.load(folder / GIVEN) as given:
        weights = []
        for number, fact in enumerate(json.loads(str(given["facts"]))):
            if "shape" in fact:
                drawn = np.random.RandomState(number).standard_normal(fact["shape"])
                weights.append((fact["mean"] + fact["std"] * drawn).astype(np.float32))
            else:
                weights.append(given[fact["name"]])
    return weights


def make_weights(folder: Path) -> None:
    """Write the weights of a network that came without them."""
    if (folder / GIVEN).exists():
        np.savez(folder / STABLEHLO.files[-1], *made_weights(folder))


def measure(
    folder: Path, precision: Precision, photos: Sequence[bytes], threads: Sequence[int]
) -> Measured:
    """Measure one network in one precision, with each number of threads that decode."""
    seen = Measured(folder.name, precision)
    try:
        make_weights(folder)
        unload_engines()
        start = time.perf_counter()
        engine = load_engine(EngineConfig(str(folder), "xla", precision))
        seen.load_seconds, seen.batch = time.perf_counter() - start, engine.batch_size
        _fill(seen, engine, folder, photos, threads)
    except Exception as error:
        # Any: the other networks and precisions are still worth measuring.
        seen.problem = f"{type(error).__name__}: {first_line(error)}"
    return seen


def _fill(
    seen: Measured, engine: Engine, folder: Path, photos: Sequence[bytes], threads: Sequence[int]
) -> None:
    with np.load(folder / "golden.npz") as golden:
        seen.cosine = float(cosine(engine.run(golden["images"]).features, golden["vectors"]).min())
    seen.model = _model_rate(engine, len(photos))
    for number in threads:
        seen.end_to_end[number] = _rate(len(photos), partial(_extract, engine, photos, number))
    stats = import_jax().local_devices()[0].memory_stats() or {}
    seen.device_mib = stats["peak_bytes_in_use"] >> 20 if "peak_bytes_in_use" in stats else None
    seen.host_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _model_rate(engine: Engine, count: int) -> float:
    """The rate of the network on pixels in memory."""
    count = min(count, 8 * engine.batch_size)
    shape = (count, *engine.model.input_size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    engine.run(pixels)
    return median(_rate(count, lambda: engine.run(pixels)) for _ in range(_ROUNDS))


def _rate(count: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def _extract(engine: Engine, photos: Sequence[bytes], threads: int) -> None:
    """Decode, resize and compute photos as a worker does: the next chunk while one is computed."""
    wanted = DecodeAndResize(DecodePolicy(), engine.model.input_size, "squash")

    def chunks() -> Iterator[list[PreparedImage]]:
        for start in range(0, len(photos), _CHUNK):
            some = [(data, (wanted,)) for data in photos[start : start + _CHUNK]]
            yield [image for [image] in decode_all(some, threads)]  # type: ignore[misc]

    for chunk in prefetch(chunks()):
        engine.run([image.pixels for image in chunk])


def _photos(folder: Path, count: int) -> list[bytes]:
    """Make that many different JPEGs from the photos of the bundle."""
    sources = [Image.open(folder / f"{Path(name).stem}.jpg").convert("RGB") for name in PHOTOS]
    return [crop(sources, number, SIZES["small"]) for number in range(count)]


def table(rows: Sequence[Measured], threads: Sequence[int]) -> str:
    """Return the measurements as a table of Markdown."""
    head = ["network", "precision", "cosine", "needed", "batch", "load, s", "model, images/s"]
    head += [f"end to end, {n} threads" for n in threads]
    head += ["device, MiB", "host, MiB", "problem"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        needed = str(MIN_COSINE[row.precision])
        lines.append([row.network, row.precision, f"{row.cosine:.6f}", needed, str(row.batch)])
        lines[-1] += [f"{row.load_seconds:.1f}", f"{row.model:,.0f}"]
        lines[-1] += [f"{row.end_to_end.get(n, 0):,.0f}" for n in threads]
        device = "-" if row.device_mib is None else str(row.device_mib)
        lines[-1] += [device, str(row.host_mib), row.problem]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    raise SystemExit(main())
