"""Export: a resolved backbone → a folder that workers load without Keras.

- ``graph.pb``: the network as a frozen GraphDef: ``images`` uint8 [N, H, W, 3] → ``features``
  float32 [N, D] and, with labels, ``scores`` float32 [N, k], descending, and ``indices`` int32
  [N, k], all from one forward pass. Of an ONNX file it is ``network.xml`` and ``network.bin``, a
  graph of OpenVINO with the same inputs and outputs.
- ``golden.npz``: ``images`` uint8 [4, H, W, 3], and what Keras itself gives for them: ``vectors``,
  ``indices`` and, with a head, ``scores``. Of an ONNX file, what onnxruntime gives; without it,
  OpenVINO in float32.
- ``model.json``: the network's file and format, sizes, labels and parameters. It is written last,
  so a folder that has it is whole.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from transforms.backbones.golden import golden_images
from transforms.backbones.head import open_head
from transforms.backbones.network import ONE_SESSION, Network
from transforms.backbones.onnx_file import OnnxNetwork
from transforms.backbones.openvino_graph import save_graph
from transforms.backbones.spec import HEAD_FIELD, NETWORK_FIELDS, Resolved
from transforms.backbones.stages import with_head, with_unit_vectors
from transforms.backbones.zero_shot import open_classes
from transforms.engines.base import GRAPHDEF, OPENVINO
from transforms.errors import UserError
from transforms.recipe import Recipe, recipe_id

FORMAT = 1
# Format 1 of custom models could apply softmax to sigmoids; its exports must not be used again.
_SCORES_FORMAT = 2
_ONNX_FORMAT = 1
# Of a vector's largest number; the same image gives the same numbers but for rounding (1e-6).
_MAX_CHANGE = 1e-3


def model_id(resolved: Resolved) -> str:
    """Return the sha256 of the recipe fields and of this format, which names the export."""
    return model_id_of(resolved.recipe_fields)


def model_id_of(recipe: Recipe) -> str:
    """Return the ``model_id`` that belongs to a whole recipe."""
    fields = {**{name: recipe.get(name) for name in NETWORK_FIELDS}, "format": FORMAT}
    if HEAD_FIELD in recipe:
        fields[HEAD_FIELD] = recipe[HEAD_FIELD]
    if recipe.get("weights") == "own" and recipe.get("labels"):
        fields |= {"scores": recipe.get("scores"), "scores_format": _SCORES_FORMAT}
    if recipe.get("layout"):
        fields |= {"layout": recipe.get("layout"), "onnx_format": _ONNX_FORMAT}
    return recipe_id(fields)


def export(resolved: Resolved, directory: Path) -> None:
    """Build the network with Keras and write it to ``directory``, which is created if missing.

    Imports TensorFlow and resets Keras' session, except for an ONNX file.

    Args:
        resolved: The choice that ``resolve`` checked.
        directory: Gets the network's file, ``golden.npz`` and, last, ``model.json``.

    Raises:
        UserError: The weights do not fit the network, or its vectors are of no use.
    """
    with ONE_SESSION:
        _export(resolved, directory)


def _export(resolved: Resolved, directory: Path) -> None:
    network = _open(resolved)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.json").unlink(missing_ok=True)
    np.savez(directory / "golden.npz", **_golden(network, resolved))
    written, reference = GRAPHDEF, {}
    if isinstance(network, OnnxNetwork):
        written, reference = OPENVINO, {"reference": network.program}
        save_graph(network, resolved, directory / written.file)
    else:
        write_graph(network, resolved, directory / written.file)
    facts = {
        "format": FORMAT,
        "network": asdict(written),
        "input_size": list(resolved.input_size),
        "dimension": network.dimension,
        "top_k": resolved.top_k,
        "labels": list(resolved.labels or ()) if resolved.top_k else None,
        "parameters": network.parameters,
        **reference,
    }
    _write(directory / "model.json", json.dumps(facts, ensure_ascii=False).encode())


def _open(resolved: Resolved) -> Network | OnnxNetwork:
    """Open the network, with what follows it: vectors of length 1, and a head."""
    from transforms.backbones.custom import open_custom
    from transforms.backbones.named import open_named

    # The labels of a head say nothing of the network's own top.
    alone = replace(resolved, labels=None, labels_id=None) if resolved.head else resolved
    network = open_named(alone) if resolved.backbone else open_custom(alone)
    if resolved.config.normalize == "l2":
        network = with_unit_vectors(network)
    if resolved.head:
        network = with_head(network, head_of(resolved), len(resolved.head.labels))
    return network


def head_of(resolved: Resolved) -> Any:
    """Return what gives the labels: a ``keras.Model`` of vectors [N, D] → scores [N, classes]."""
    return open_classes(resolved) if resolved.config.classes else open_head(resolved)


def write_graph(network: Network, resolved: Resolved, path: Path) -> None:
    """Write the whole graph, from uint8 pixels to top-k, as a GraphDef without variables."""
    import tensorflow as tf

    from transforms.backbones.frozen import cut, frozen_graph
    from transforms.preprocess import ValueRange

    scale, k = ValueRange(resolved.preprocess), resolved.top_k
    names = ["features", "scores", "indices"][: 3 if k else 1]

    def call(images: Any) -> list[Any]:
        # A layer of the network may be called as one of our outputs.
        with tf.name_scope("network"):
            vectors, probabilities = network.forward(scale(images))
        outputs = [vectors, *(tf.math.top_k(probabilities, k) if k else ())]
        return [tf.identity(tensor, name) for tensor, name in zip(outputs, names, strict=True)]

    images = tf.TensorSpec([None, *resolved.input_size, 3], tf.uint8, "images")
    function = tf.function(call, [images], autograph=False).get_concrete_function()
    graph = cut(frozen_graph(function), names)
    _write(path, graph.SerializeToString(deterministic=True))


def _golden(network: Network | OnnxNetwork, resolved: Resolved) -> dict[str, Any]:
    """Compute the golden images, the reference's vectors of them, and its top-k."""
    images = golden_images(*resolved.input_size)
    vectors, probabilities = network.reference(images)
    if not np.isfinite(vectors).all() or not vectors.any():
        seen = "are all zero" if np.isfinite(vectors).all() else "hold NaN or infinite numbers"
        raise UserError(
            f"--backbone {resolved.name}: its vectors of the golden images {seen}; check its "
            "weights, --preprocess and --feature-layer"
        )
    if resolved.backbone is None:
        _check_alone(network, resolved.name, images, vectors)
    golden: dict[str, Any] = {"images": images, "vectors": vectors.astype(np.float32)}
    indices: np.ndarray = np.empty((len(images), 0))
    if probabilities is not None:
        indices = np.argsort(-probabilities, axis=1, kind="stable")[:, : resolved.top_k]
    golden["indices"] = indices.astype(np.int32)
    if resolved.head and probabilities is not None:
        golden["scores"] = np.take_along_axis(probabilities, indices, axis=1)
    return golden


def _check_alone(
    network: Network | OnnxNetwork, name: str, images: np.ndarray, vectors: np.ndarray
) -> None:
    """Check that an image has the same vector in other company, and each time.

    Args:
        network: A model of the user's.
        name: Its name, for the message.
        images: The golden images, uint8 [4, H, W, 3].
        vectors: The reference's vectors of them, float32 [4, D].

    Raises:
        UserError: It has another one.
    """
    # As many images as before: some models take no other number.
    again, _ = network.reference(images[[0, 0, 1, 1]])
    change = float(np.abs(again[[0, 2]] - vectors[:2]).max())
    if change > _MAX_CHANGE * float(np.abs(vectors).max()):
        raise UserError(
            f"--backbone {name}: the vector of an image depends on the other images of its batch, "
            f"or on chance (it changed by {change:.2g}). Save the model as it predicts: no "
            "BatchNormalization, Dropout or random layer in training mode"
        )


def _write(path: Path, data: bytes) -> None:
    """Write whole or not at all."""
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_bytes(data)
    scratch.replace(path)
