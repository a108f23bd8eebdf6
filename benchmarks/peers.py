"""Measure the tools that people use today, on the same images and the same network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case, steady


def missing(kind: str) -> str | None:
    """Return the reason why a peer cannot be measured here, or None."""
    if kind == "textbook_beam" and find_spec("tensorflow_hub") is None:
        return "tensorflow-hub is not installed (Beam's TensorFlow handler imports it)"
    if kind == "onnxruntime" and (find_spec("onnxruntime") is None or find_spec("tf2onnx") is None):
        return "onnxruntime and tf2onnx are not installed"
    if kind == "timm" and not os.environ.get("TIMM_PYTHON"):
        return "TIMM_PYTHON names no Python with torch and timm"
    return None


def keras_network(case: Case) -> Any:
    """Return the network as a Keras model.

    Returns:
        A model of preprocessed pixels, float32 [N, H, W, 3], to vectors and probabilities.
    """
    from transforms.backbones import BackboneConfig, resolve
    from transforms.backbones.network import import_keras

    keras = import_keras()
    network = resolve(BackboneConfig(backbone=case.backbone, weights=case.weights))
    from transforms.backbones.named import open_named

    opened = open_named(network)
    images = keras.Input((*network.input_size, 3), dtype="float32")
    vectors, probabilities = opened.forward(images)
    return keras.Model(images, [vectors, probabilities])


def keras_predict(case: Case) -> float:
    """Measure Keras ``predict`` over tf.data: read, decode_jpeg, resize, batch, prefetch."""
    import tensorflow as tf

    from transforms.backbones import find_backbone
    from transforms.preprocess import ValueRange

    network = keras_network(case)
    size = network.input_shape[1:3]
    value_range = ValueRange(find_backbone(case.backbone).mode)

    def load(path: Any) -> Any:
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return value_range(tf.image.resize(pixels, size))

    def run(count: int) -> None:
        paths = tf.data.Dataset.from_tensor_slices([str(path) for path in case.files(count)])
        batches = (
            paths.map(load, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(32)
            .prefetch(tf.data.AUTOTUNE)
        )
        network.predict(batches, verbose=0)

    return steady(run, case.count)


def textbook_beam(case: Case) -> float:
    """Measure a textbook Beam job: FileSystems.open → Pillow → RunInference → WriteToParquet."""
    import apache_beam as beam
    import pyarrow as pa
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
    from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerTensor

    from pipeline.runners.options import RunnerOptions
    from pipeline.runners.pipeline import new_pipeline
    from transforms.backbones import find_backbone
    from transforms.preprocess import ValueRange

    network = keras_network(case)
    height, width = network.input_shape[1:3]
    folder = Path(tempfile.mkdtemp())
    network.save(folder / "model.keras")
    value_range = ValueRange(find_backbone(case.backbone).mode)

    def load(path: str) -> tuple[str, Any]:
        import tensorflow as tf
        from PIL import Image

        with FileSystems.open(path) as file:
            image = (
                Image.open(file).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            )
        return path, tf.convert_to_tensor(value_range(np.asarray(image)))

    def to_row(item: Any) -> dict[str, Any]:
        path, result = item
        return {"uri": path, "embedding": np.asarray(result.inference[0]).tolist()}

    schema = pa.schema([("uri", pa.string()), ("embedding", pa.list_(pa.float32()))])

    def run(count: int) -> None:
        handler = KeyedModelHandler(TFModelHandlerTensor(str(folder / "model.keras")))
        with new_pipeline(RunnerOptions()) as pipeline:
            _ = (
                pipeline
                | beam.Create([str(path) for path in case.files(count)])
                | beam.Map(load)
                | RunInference(handler)
                | beam.Map(to_row)
                | beam.io.WriteToParquet(str(folder / "out"), schema)
            )

    try:
        return steady(run, case.count)
    finally:
        shutil.rmtree(folder)


def onnxruntime(case: Case) -> float:
    """Measure ONNX Runtime fed by a pool of Pillow threads, on a network converted by tf2onnx."""
    from concurrent.futures import ThreadPoolExecutor

    import onnxruntime as ort
    import tensorflow as tf
    import tf2onnx
    from PIL import Image

    from transforms.backbones import find_backbone
    from transforms.preprocess import ValueRange

    network = keras_network(case)
    height, width = network.input_shape[1:3]
    signature = [tf.TensorSpec([None, height, width, 3], tf.float32, name="images")]
    function = tf.function(
        lambda images: network(images, training=False), input_signature=signature
    )
    proto, _ = tf2onnx.convert.from_function(function, signature)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    value_range = ValueRange(find_backbone(case.backbone).mode)

    def load(path: Path) -> Any:
        with Image.open(path) as image:
            pixels = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            return value_range(np.asarray(pixels))

    def batches(count: int) -> Iterator[Any]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            files = case.files(count)
            for start in range(0, count, 32):
                yield np.stack(list(pool.map(load, files[start : start + 32])))

    def run(count: int) -> None:
        for batch in batches(count):
            session.run(None, {session.get_inputs()[0].name: batch})

    return steady(run, case.count)


def timm(case: Case) -> float:
    """Measure the loop of timm's inference script.

    It has a dataset like ImageFolder, a DataLoader with workers, and torch in eval mode.
    """
    words = [os.environ["TIMM_PYTHON"], str(Path(__file__).with_name("timm_loop.py"))]
    words += [case.folder, str(case.count), case.backbone, case.precision]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1500, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.splitlines()[-1])


PEERS: dict[str, Callable[[Case], float]] = {
    "textbook_beam": textbook_beam,
    "keras_predict": keras_predict,
    "onnxruntime": onnxruntime,
    "timm": timm,
}
