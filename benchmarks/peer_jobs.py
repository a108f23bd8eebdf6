"""Whole jobs of the peers, as their users would write them: a folder of JPEGs → Parquet of vectors.

Runs in a Python of its own, which has the peers and OpenVINO, and imports nothing of ours:

    PYTHON benchmarks/peer_jobs.py KIND EXPORT FOLDER OUTPUT

All run the network that we export, on OpenVINO, in batches of 4 and with all cores, which is the
fastest here. The network gets chunks of 200 images.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

_BATCH = 4
_CHUNK = 200


class Network:
    """The exported network, compiled at its first use.

    Pixels uint8 [N, H, W, 3] → vectors float32 [N, D].
    """

    def __init__(self, export: str) -> None:
        facts = json.loads(Path(export, "model.json").read_text(encoding="utf-8"))
        self.export, self.dimension = export, facts["dimension"]
        self.height, self.width = facts["input_size"]
        self._queue: Any = None
        # Daft calls from several threads.
        self._turn = threading.Lock()

    def __reduce__(self) -> Any:
        return Network, (self.export,)

    def _open(self) -> Any:
        import openvino as ov

        core = ov.Core()
        network = core.read_model(str(Path(self.export, "graph.pb")))
        network.reshape([_BATCH, self.height, self.width, 3])
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        queue = ov.AsyncInferQueue(core.compile_model(network, "CPU", hints))

        def keep(request: Any, place: tuple[Any, int, int]) -> None:
            vectors, start, count = place
            vectors[start : start + count] = request.get_tensor("features:0").data[:count]

        queue.set_callback(keep)
        return queue

    def __call__(self, pixels: Any) -> Any:
        """Compute any number of images."""
        with self._turn:
            return self._run(pixels)

    def _run(self, pixels: Any) -> Any:
        self._queue = self._queue or self._open()
        vectors = np.empty((len(pixels), self.dimension), np.float32)
        for start in range(0, len(pixels), _BATCH):
            batch = np.asarray(pixels[start : start + _BATCH])
            count = len(batch)
            padded = np.concatenate([batch, np.repeat(batch[-1:], _BATCH - count, axis=0)])
            self._queue.start_async({"images:0": padded}, (vectors, start, count))
        self._queue.wait_all()
        return vectors

    def decode(self, data: bytes) -> Any:
        """Decode and resize with Pillow, scaled down by the JPEG decoder where it can."""
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            # Twice the network's size, as ours.
            image.draft("RGB", (2 * self.width, 2 * self.height))
            size = (self.width, self.height)
            return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def _paths(folder: str) -> list[str]:
    return [str(path) for path in sorted(Path(folder).glob("*.jpg"))]


def _decoded(network: Network, files: list[bytes]) -> Any:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(network.decode, files)))


def daft(network: Network, folder: str, output: str) -> None:
    """Daft's own download, decoder and resize."""
    import daft

    kind = daft.DataType.embedding(daft.DataType.float32(), network.dimension)

    @daft.func.batch(return_dtype=kind, batch_size=_CHUNK)  # type: ignore[untyped-decorator]
    def embed(images: daft.Series) -> list[Any]:
        pixels = images.to_arrow().storage.flatten().to_numpy()
        return list(network(pixels.reshape(-1, network.height, network.width, 3)))

    frame = daft.from_pydict({"path": _paths(folder)})
    images = daft.col("path").download().decode_image(mode="RGB")
    frame = frame.with_column("image", images.resize(network.width, network.height))
    frame = frame.with_column("embedding", embed(daft.col("image"))).exclude("image")
    frame.write_parquet(output)


def ray(network: Network, folder: str, output: str) -> None:
    """Ray Data's own reading, decoding and resizing, and one actor with the network."""
    import ray

    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)

    class Embed:
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            return {"path": batch["path"], "embedding": network(batch["image"])}

    images = ray.data.read_images(
        _paths(folder), size=(network.height, network.width), mode="RGB", include_paths=True
    )
    rows = images.map_batches(Embed, batch_size=_CHUNK, compute=ray.data.ActorPoolStrategy(size=1))
    rows.write_parquet(output)


def datasets(network: Network, folder: str, output: str) -> None:
    """Hugging Face datasets: one map, with a pool of threads for Pillow in it."""
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()

    def embed(batch: dict[str, list[Any]]) -> dict[str, Any]:
        files = [Path(path).read_bytes() for path in batch["path"]]
        return {"embedding": network(_decoded(network, files))}

    rows = datasets.Dataset.from_dict({"path": _paths(folder)})
    rows = rows.map(embed, batched=True, batch_size=_CHUNK)
    Path(output).mkdir()
    rows.to_parquet(f"{output}/rows.parquet")


def pyspark(network: Network, folder: str, output: str) -> None:
    """PySpark on this machine's cores: binaryFile, and mapInPandas with Pillow and the network."""
    import pandas as pd
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master(f"local[{os.cpu_count()}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "4g")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", _CHUNK)
        .getOrCreate()
    )

    def embed(frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            vectors = network(_decoded(network, list(frame["content"])))
            yield pd.DataFrame({"path": frame["path"], "embedding": list(vectors)})

    files = spark.read.format("binaryFile").option("pathGlobFilter", "*.jpg").load(folder)
    rows = files.select("path", "content").mapInPandas(embed, "path string, embedding array<float>")
    rows.write.parquet(output)


JOBS: dict[str, Callable[[Network, str, str], None]] = {
    "daft": daft,
    "ray": ray,
    "datasets": datasets,
    "pyspark": pyspark,
}

if __name__ == "__main__":
    kind, export, folder, output = sys.argv[1:]
    JOBS[kind](Network(export), folder, output)
