"""A SavedModel folder: frozen from its serving signature, and cut at an operation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from transforms.backbones.classifier import Walk, choices
from transforms.backbones.golden import golden_images
from transforms.backbones.inspection import how_to_list
from transforms.backbones.network import (
    CustomFacts,
    Images,
    Network,
    Rows,
    choose_size,
    import_keras,
    pooling_of,
    unknown_layer,
)
from transforms.backbones.scores import last_operations, still_due, take
from transforms.backbones.signature import Frozen, freeze
from transforms.backbones.spec import Resolved
from transforms.choices import BackboneConfig, Pooling
from transforms.errors import UserError


def read_facts(path: Path, config: BackboneConfig) -> CustomFacts:
    """Load the model and find its input size, feature operation, vector and classes.

    Raises:
        UserError: The folder cannot be loaded or carries code, or the operation is unknown.
    """
    import_keras()
    frozen = freeze(path, config)
    size = choose_size(path.name, frozen.shape, config.input_size)
    tensor, name = _feature(frozen, path, config)
    images = (golden_images(*size) / 255).astype(np.float32)
    try:
        vectors, outputs = _run(frozen, tensor, config.pooling)(images)
        _check_rows(frozen, path, images, vectors, outputs)
    except UserError:
        raise
    # TensorFlow raises many kinds.
    except Exception as error:
        if frozen.shape[0] is None:
            raise
        raise UserError(
            f"--backbone {path}: takes {frozen.shape[0]} images at once, and no other number; save "
            "a signature that takes any number, [None, height, width, 3]"
        ) from error
    return CustomFacts(
        input_size=size,
        feature_layer=name,
        dimension=vectors.shape[1],
        classes=0 if outputs is None else outputs.shape[1],
        outputs=frozen.outputs,
        integral=frozen.dtype.is_integer,
    )


def _check_rows(frozen: Frozen, path: Path, images: Any, vectors: Any, outputs: Any) -> None:
    """Check that each image has a vector, and that fixed variables change no output."""
    if len(vectors) != len(images):
        raise UserError(
            f"--backbone {path}: {len(images)} images give {len(vectors)} vectors; name another "
            f"operation by --feature-layer. All: {how_to_list(path)}"
        )
    if outputs is None:
        return
    own = frozen.predict(images)
    if not np.allclose(outputs, own, atol=0.01 * np.abs(own).max(), equal_nan=True):
        raise UserError(
            f"--backbone {path}: gives other outputs once its variables are fixed, so it changes "
            "them while it predicts. Save a signature that changes none"
        )


def open_model(resolved: Resolved, path: Path) -> Network:
    """Load the model, cut at its feature operation."""
    import_keras()
    from transforms.preprocess import ValueRange

    config = resolved.config
    frozen = freeze(path, config)
    tensor, _ = _feature(frozen, path, config)
    scale, imported = ValueRange(resolved.preprocess), _import(frozen, tensor, config.pooling)
    due = _still_due(frozen, scale, resolved)

    def forward(pixels: Any) -> tuple[Any, Any]:
        vectors, outputs = imported(pixels)
        return vectors, None if outputs is None else take(due, outputs)

    def reference(images: Images) -> Rows:
        pixels = np.asarray(scale(images))
        vectors, _ = _run(frozen, tensor, config.pooling)(pixels)
        if frozen.output is None:
            return vectors, None
        return vectors, take(due, frozen.predict(pixels)).numpy()

    return Network(
        forward, reference, resolved.dimension, resolved.weights.classes, _parameters(frozen)
    )


def _parameters(frozen: Frozen) -> int:
    """Count the numbers in float32 constants (1 in TensorFlow's DataType): the weights."""
    tensors = [node.attr["value"].tensor for node in frozen.graph.node if node.op == "Const"]
    return sum(
        math.prod(d.size for d in tensor.tensor_shape.dim)
        for tensor in tensors
        if tensor.dtype == 1
    )


def _feature(frozen: Frozen, path: Path, config: BackboneConfig) -> tuple[str, str]:
    """Return the tensor name of the vector or map, and its name for the recipe.

    By default it is what the classifier, a MatMul, takes.

    An operation may be named by the end of its name, where only one ends so: the rest is how it was
    saved.
    """
    wanted = config.feature_layer
    if wanted:
        names = [node.name for node in frozen.graph.node if node.op != "Const"]
        found = [name for name in names if name == wanted or name.endswith(f"/{wanted}")]
        if len(found) != 1:
            raise unknown_layer(wanted, found or names, how_to_list(path))
        return f"{found[0]}:0", found[0]
    walk = Walk(frozen.graph, frozen.input, frozen.all_outputs)
    taken = walk.classifier_input()
    if taken is None:
        raise UserError(
            f"--backbone {path}: has no MatMul before one output [N, classes], as its classifier, "
            "whose input would be the vector; name an operation by "
            f"--feature-layer{choices(frozen.graph, walk)}. All: "
            f"{how_to_list(path)}"
        )
    return taken[0], f"input of {taken[1]}"


def _still_due(frozen: Frozen, scale: Any, resolved: Resolved) -> str:
    if frozen.output is None or not resolved.top_k:
        return "none"
    last = last_operations(frozen.graph, frozen.output)
    size = resolved.input_size
    return still_due(
        resolved.config, last, lambda images: frozen.predict(np.asarray(scale(images))), size
    )


def _import(frozen: Frozen, tensor: str, pooling: Pooling | None) -> Any:
    """Return a function: pixels [N, H, W, 3] → vector [N, D], output [N, classes] or None."""
    import tensorflow as tf

    names = [tensor, frozen.output] if frozen.output else [tensor]

    def call(pixels: Any) -> tuple[Any, Any]:
        feed = {frozen.input: tf.cast(pixels, frozen.dtype)}
        vector, *outputs = tf.graph_util.import_graph_def(frozen.graph, feed, names, name="network")
        rank, name = vector.shape.rank, tensor.partition(":")[0]
        if rank not in (2, 3, 4):
            raise UserError(
                f"--feature-layer {name}: gives {vector.shape}; a vector needs an operation that "
                "gives [N, D], or [N, H, W, C] or tokens [N, T, D], which are pooled"
            )
        if rank > 2:
            how = pooling_of(rank, pooling, name)
            reduce = tf.reduce_mean if how == "avg" else tf.reduce_max
            axes = list(range(1, rank - 1))
            vector = vector[:, 0] if how == "cls" else reduce(vector, axis=axes)
        return tf.cast(vector, tf.float32), tf.cast(outputs[0], tf.float32) if outputs else None

    return call


def _run(frozen: Frozen, tensor: str, pooling: Pooling | None) -> Any:
    import tensorflow as tf

    function = tf.function(_import(frozen, tensor, pooling), autograph=False)

    def predict(pixels: Any) -> Rows:
        vectors, outputs = function(tf.constant(pixels))
        return vectors.numpy(), None if outputs is None else outputs.numpy()

    return predict
