"""A whole model in a ``.keras`` file, or in an ``.h5`` file of Keras 2 or 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np

from transforms.backbones.inspection import how_to_list
from transforms.backbones.keras_graph import channels_last, classifier_input, follow
from transforms.backbones.network import (
    CustomFacts,
    Images,
    Network,
    Rows,
    choose_size,
    import_keras,
    pooled,
    run,
    unknown_layer,
)
from transforms.backbones.scores import last_operations, still_due, take
from transforms.backbones.spec import Resolved
from transforms.choices import BackboneConfig
from transforms.errors import UserError, first_line

_WITH_COLORS = (
    "; give it an input: x = keras.Input((height, width, 3)); "
    "keras.Model(x, model(x)).save('with_colors.keras')"
)
_PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid")


def read_facts(path: Path, config: BackboneConfig) -> CustomFacts:
    """Load the model and find its input size, feature layer, vector and classes.

    Raises:
        UserError: The file cannot be loaded or carries code, or the layer does not exist.
    """
    model = load(path, config.allow_code)
    entry = model.inputs[0]
    size = choose_size(path.name, tuple(entry.shape), config.input_size)
    _check_batch(model, path, size)
    feature, name, _ = _feature(model, path, config, entry)
    return CustomFacts(
        input_size=size,
        feature_layer=name,
        dimension=int(feature.shape[-1]),
        classes=_classes(model),
        outputs=", ".join(str(list(output.shape)) for output in model.outputs),
        own_scaling=_own_scaling(model),
        integral="int" in entry.dtype,
    )


def open_model(resolved: Resolved, path: Path) -> Network:
    """Load the model, cut at its feature layer."""
    config = resolved.config
    model = load(path, config.allow_code)
    import tensorflow as tf

    from transforms.preprocess import ValueRange

    feature, _, _ = _feature(model, path, config, model.inputs[0])
    classes = _classes(model)
    scale = ValueRange(resolved.preprocess)
    due = _still_due(model, scale, resolved)

    def forward(pixels: Any) -> tuple[Any, Any]:
        vectors, _, outputs = _feature(model, path, config, tf.cast(pixels, model.inputs[0].dtype))
        return tf.cast(vectors, tf.float32), take(due, outputs) if classes else None

    def reference(images: Images) -> Rows:
        pixels = np.asarray(scale(images)).astype(model.inputs[0].dtype)
        with tf.device("/CPU:0"):
            vectors = (
                _feature(model, path, config, tf.constant(pixels))[0].numpy().astype(np.float32)
            )
        if not classes:
            return vectors, None
        return vectors, take(due, tf.nest.flatten(run(model, pixels))[0]).numpy()

    return Network(forward, reference, int(feature.shape[-1]), classes, int(model.count_params()))


def vector_model(resolved: Resolved, path: Path) -> Any:
    """Load the model up to its feature layer, as a Keras model to be trained.

    Raises:
        UserError: The file cannot be loaded, or inner models have layers of one name.
    """
    import keras

    model = load(path, resolved.config.allow_code)
    pixels = model.inputs[0]
    feature, _, _ = _feature(model, path, resolved.config, pixels)
    try:
        return keras.Model(pixels, feature)
    except ValueError as error:
        raise UserError(
            f"--backbone {path}: cannot be trained ({first_line(error)}); give each layer a name "
            "of its own and save the model anew"
        ) from error


def load(path: Path, allow_code: bool) -> Any:
    """Load a file as a Keras model of one image, to compute in float32.

    Raises:
        UserError: It cannot be loaded, carries code, or takes something else.
    """
    if path.suffix == ".keras" and not is_zipfile(path):
        # Keras would say that there is no such file.
        raise UserError(
            f"--backbone {path}: Keras cannot load it (a .keras file is a zip archive, and this is "
            "none, or is cut short); copy it again, or save the model anew by model.save()"
        )
    keras = import_keras()
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=not allow_code)
    except Exception as error:  # Keras raises many kinds
        raise _cannot_load(path, str(error), first_line(error)) from error
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "inputs", None) or ()]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] != 3:
        hint = "" if len(shapes) != 1 or shapes[0][-1] else _WITH_COLORS
        raise UserError(
            f"--backbone {path}: takes {shapes or 'no known input'}; it must take one image [N, H, "
            f"W, 3]{hint}"
        )
    for layer in model._flatten_layers():
        if type(layer).__name__ == "TFSMLayer":
            raise UserError(
                f"--backbone {path}: its layer {layer.name} reads a SavedModel from another folder,"
                " which may change; give that folder itself"
            )
        if layer.compute_dtype in ("bfloat16", "float16"):
            # This is how the model was trained; --precision says how it runs.
            layer.dtype_policy = "float32"
    return model


def _cannot_load(path: Path, message: str, line: str) -> UserError:
    if "safe_mode" in message or "unsafe" in message:
        return UserError(
            f"--backbone {path}: the file carries code (a Lambda layer or the like), which would "
            "run on this machine. If you trust where it comes from, add --allow-code; better, "
            "save the model without it"
        )
    if "No model config" in message:
        return UserError(
            f"--backbone {path}: holds weights only; give them by --weights with the backbone's "
            "name"
        )
    if "Could not locate" in message or "Unknown layer" in message:
        return UserError(
            f"--backbone {path}: uses a layer that is not Keras' own ({line}). Save the model with "
            "model.export() and give the SavedModel folder, which needs no Python class"
        )
    return UserError(
        f"--backbone {path}: Keras cannot load it ({line}); copy it again, or save the model anew "
        "by model.save()"
    )


def _feature(model: Any, path: Path, config: BackboneConfig, pixels: Any) -> tuple[Any, str, Any]:
    """Return the vector of ``pixels``, the name of the classifier's input, and the first output."""
    calls, outputs = follow(model, pixels)
    name = config.feature_layer
    if name:
        found = [call for call in calls if call.name == name]
        if not found:
            raise unknown_layer(name, [call.name for call in calls], how_to_list(path))
        if len(found) > 1 or len(found[0].outputs) > 1:
            raise UserError(
                f"--feature-layer {name}: gives several outputs; choose a layer that gives one"
            )
        tensor = channels_last(found[0], calls)
        return pooled(tensor, config.pooling, name), name, outputs[0]
    taken = classifier_input(calls, outputs)
    if taken is None:
        last = ", ".join(call.name for call in calls[-5:])
        raise UserError(
            f"--backbone {path}: has no Dense layer whose input would be the vector, as its "
            f"classifier; name a layer by --feature-layer. The last ones are {last}. All "
            f"{len(calls)}: {how_to_list(path)}"
        )
    end = next(call for call in reversed(calls) if not call.whole)
    if type(end.layer).__name__ == "UnitNormalization":
        raise UserError(
            f"--backbone {path}: ends in {end.name}, which makes vectors of length 1, so its "
            f"output may be the vector. Say by --feature-layer which one to take: {end.name}, or "
            f"another layer. All {len(calls)}: {how_to_list(path)}"
        )
    name = f"input of {taken[1]}"
    return pooled(taken[0], config.pooling, name), name, outputs[0]


def _check_batch(model: Any, path: Path, size: tuple[int, int]) -> None:
    """Check that a model with a fixed number of images takes four as well."""
    count, *_ = model.inputs[0].shape
    if count is None:
        return
    try:
        run(model, np.zeros((4, *size, 3), model.inputs[0].dtype))
    # Its layers raise many kinds.
    except Exception as error:
        raise UserError(
            f"--backbone {path}: takes {count} images at once, and no other number; save it with "
            "an input of any number of images, as keras.Input((height, width, 3)) is"
        ) from error


def _classes(model: Any) -> int:
    """Count the classes of a model with one output [N, classes]; return 0 for any other."""
    shape = tuple(model.outputs[0].shape)
    return int(shape[1]) if len(model.outputs) == 1 and len(shape) == 2 and shape[1] else 0


def _own_scaling(model: Any) -> str | None:
    kinds = ("Rescaling", "Normalization")
    return next((layer.name for layer in model.layers[:4] if type(layer).__name__ in kinds), None)


def _still_due(model: Any, scale: Any, resolved: Resolved) -> str:
    """Decide which scores to apply: by the last activation, else by the graph and its values."""
    import tensorflow as tf

    activation = getattr(model.outputs[0]._keras_history.operation, "activation", None)
    asked = resolved.config
    if not resolved.top_k or (
        not asked.scores and getattr(activation, "__name__", None) in _PROBABILITIES
    ):
        return "none"

    def predict(images: Images) -> Any:
        return tf.nest.flatten(run(model, np.asarray(scale(images)).astype(model.inputs[0].dtype)))[
            0
        ]

    spec = tf.TensorSpec([None, *resolved.input_size, 3], model.inputs[0].dtype)
    call = tf.function(
        lambda pixels: tf.nest.flatten(model(pixels, training=False))[0], autograph=False
    )
    traced = call.get_concrete_function(spec)
    last = last_operations(traced.graph.as_graph_def(), traced.outputs[0].name)
    return still_due(asked, last, predict, resolved.input_size)
