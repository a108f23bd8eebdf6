"""A SavedModel folder: frozen from its serving signature, and cut at an operation.

``python -m transforms.backbones.saved_model FOLDER`` lists the operations that ``--feature-layer``
can name.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transforms.backbones.classifier import Walk, choices
from transforms.backbones.golden import golden_images
from transforms.backbones.network import (
    CustomFacts,
    Images,
    Network,
    Rows,
    choose_size,
    import_keras,
    unknown_layer,
)
from transforms.backbones.safety import check_file, check_random, check_signature
from transforms.backbones.scores import last_operations, still_due, take
from transforms.backbones.spec import Resolved
from transforms.choices import BackboneConfig
from transforms.errors import UserError, first_line


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A serving signature with its variables made constants."""

    graph: Any  # GraphDef
    input: str  # tensor names
    output: str | None  # the one output [N, classes]
    all_outputs: tuple[str, ...]
    dtype: Any
    shape: tuple[int | None, ...]
    outputs: str
    # The signature as it was loaded: tensor → the output [N, classes]
    predict: Any


def read_facts(path: Path, config: BackboneConfig) -> CustomFacts:
    """Load the model and find its input size, feature operation, vector and classes.

    Raises ``UserError`` for a folder that cannot be loaded or carries code, and for an unknown
    operation.
    """
    import_keras()
    frozen = _freeze(path, config)
    size = choose_size(path.name, frozen.shape, config.input_size)
    tensor, name = _feature(frozen, path, config)
    images = (golden_images(*size) / 255).astype(np.float32)[: frozen.shape[0]]
    vectors, outputs = _run(frozen, tensor, config.pooling)(images)
    _check_rows(frozen, path, images, vectors, outputs)
    return CustomFacts(
        size, name, vectors.shape[1], 0 if outputs is None else outputs.shape[1], frozen.outputs
    )


def _check_rows(frozen: _Frozen, path: Path, images: Any, vectors: Any, outputs: Any) -> None:
    """Raise ``UserError`` where images have not one vector each, or where other outputs come of fixed variables."""
    if len(vectors) != len(images):
        raise UserError(
            f"--backbone {path}: {len(images)} images give {len(vectors)} vectors; name another "
            f"operation by --feature-layer. All: python -m transforms.backbones.saved_model {path}"
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
    frozen = _freeze(path, config)
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


def _parameters(frozen: _Frozen) -> int:
    """Numbers in the graph's constants of type float32 (1 in TensorFlow's DataType): its weights, and little else."""
    tensors = [node.attr["value"].tensor for node in frozen.graph.node if node.op == "Const"]
    return sum(
        math.prod(d.size for d in tensor.tensor_shape.dim)
        for tensor in tensors
        if tensor.dtype == 1
    )


def _freeze(path: Path, config: BackboneConfig) -> _Frozen:
    import tensorflow as tf

    from transforms.backbones.frozen import cut, frozen_graph, tell_of_functions, without_effects

    if not config.allow_code:
        check_file(path)
    try:
        loaded = tf.saved_model.load(str(path))
        signature = _signature(loaded, path)
        all_outputs = tuple(output.name for output in signature.outputs)
        graph = cut(
            without_effects(frozen_graph(signature)), [*all_outputs, signature.inputs[0].name]
        )
        tell_of_functions(graph)
    except UserError:
        raise
    except Exception as error:  # TensorFlow raises many kinds
        index = "variables/variables.index"
        seen = first_line(error) if (path / index).exists() else f"{index} is missing"
        raise UserError(
            f"--backbone {path}: TensorFlow cannot load it ({seen}); copy the whole folder or save "
            "it anew"
        ) from error
    check_random(path, graph)
    if not config.allow_code:
        check_signature(path, graph)
    name, spec = next(iter(signature.structured_input_signature[1].items()))
    key, output = _output(signature)

    def predict(pixels: Any) -> Any:
        # Its variables live as long as it does
        _keep = loaded
        return signature(**{name: tf.cast(pixels, spec.dtype)})[key].numpy()

    return _Frozen(
        graph=graph,
        input=signature.inputs[0].name,
        output=output,
        all_outputs=all_outputs,
        dtype=spec.dtype,
        shape=tuple(spec.shape),
        outputs=", ".join(str(list(o.shape)) for o in signature.structured_outputs.values()),
        predict=predict,
    )


def _signature(loaded: Any, path: Path) -> Any:
    signatures = dict(loaded.signatures)
    chosen = signatures.get("serving_default") or (
        next(iter(signatures.values())) if len(signatures) == 1 else None
    )
    if chosen is None:
        raise UserError(
            f"--backbone {path}: has no signature serving_default, but "
            f"{sorted(signatures) or 'none at all'}; save it with signatures=, or with Keras' "
            "model.export()"
        )
    inputs = list(chosen.structured_input_signature[1].values())
    shapes = [(spec.dtype.name, tuple(spec.shape)) for spec in inputs]
    images = len(inputs) == 1 and inputs[0].shape.rank == 4 and inputs[0].shape[-1] == 3
    if not images or inputs[0].dtype.name == "string":
        raise UserError(f"--backbone {path}: takes {shapes}; it must take one image [N, H, W, 3]")
    return chosen


def _output(signature: Any) -> tuple[str | None, str | None]:
    """Key and tensor of the one output [N, classes]; None where there is no such output, or several outputs."""
    keys = sorted(
        signature.structured_outputs
        # The order in which a signature's outputs are flattened
    )
    if len(keys) != 1 or signature.structured_outputs[keys[0]].shape.rank != 2:
        return None, None
    return keys[0], signature.outputs[0].name


def _feature(frozen: _Frozen, path: Path, config: BackboneConfig) -> tuple[str, str]:
    """Tensor name of the vector or map, and what to call it: by default, what the classifier, a MatMul, takes.

    An operation may be named by the end of its name, where only one ends so: the rest is how it was
    saved.
    """
    wanted = config.feature_layer
    if wanted:
        names = [node.name for node in frozen.graph.node if node.op != "Const"]
        found = [name for name in names if name == wanted or name.endswith(f"/{wanted}")]
        if len(found) != 1:
            how = f"python -m transforms.backbones.saved_model {path}"
            raise unknown_layer(wanted, found or names, how)
        return f"{found[0]}:0", found[0]
    walk = Walk(frozen.graph, frozen.input, frozen.all_outputs)
    taken = walk.classifier_input()
    if taken is None:
        raise UserError(
            f"--backbone {path}: has no MatMul before one output [N, classes], as its classifier, "
            "whose input would be the vector; name an operation by "
            f"--feature-layer{choices(frozen.graph, walk)}. All: python -m "
            f"transforms.backbones.saved_model {path}"
        )
    return taken[0], f"input of {taken[1]}"


def _still_due(frozen: _Frozen, scale: Any, resolved: Resolved) -> str:
    if frozen.output is None or not resolved.top_k:
        return "none"
    last = last_operations(frozen.graph, frozen.output)
    size = resolved.input_size
    return still_due(
        resolved.config, last, lambda images: frozen.predict(np.asarray(scale(images))), size
    )


def _import(frozen: _Frozen, tensor: str, pooling: str) -> Any:
    """A function of float32 pixels [N, H, W, 3] → the vector [N, D] and the output [N, classes] or None."""
    import tensorflow as tf

    names = [tensor, frozen.output] if frozen.output else [tensor]

    def call(pixels: Any) -> tuple[Any, Any]:
        feed = {frozen.input: tf.cast(pixels, frozen.dtype)}
        vector, *outputs = tf.graph_util.import_graph_def(frozen.graph, feed, names, name="network")
        if vector.shape.rank == 4:
            vector = (tf.reduce_mean if pooling == "avg" else tf.reduce_max)(vector, axis=[1, 2])
        if vector.shape.rank != 2:
            raise UserError(
                f"--feature-layer {tensor.partition(':')[0]}: gives {vector.shape}; a vector needs "
                "an operation that gives [N, D], or [N, H, W, C], which is pooled"
            )
        return tf.cast(vector, tf.float32), tf.cast(outputs[0], tf.float32) if outputs else None

    return call


def _run(frozen: _Frozen, tensor: str, pooling: str) -> Any:
    import tensorflow as tf

    function = tf.function(_import(frozen, tensor, pooling), autograph=False)

    def predict(pixels: Any) -> Rows:
        vectors, outputs = function(tf.constant(pixels))
        return vectors.numpy(), None if outputs is None else outputs.numpy()

    return predict


def main() -> None:
    """Print the operations of a SavedModel's frozen signature."""
    import_keras()
    graph = _freeze(Path(sys.argv[1]), BackboneConfig()).graph
    sys.stdout.writelines(
        f"{node.op:24} {node.name}\n" for node in graph.node if node.op != "Const"
    )


if __name__ == "__main__":
    main()
