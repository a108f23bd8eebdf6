"""Networks of the table: build them with Keras, fill them, and cut them at the vector's layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from transforms.backbones.inspection import how_to_list
from transforms.backbones.network import (
    Floats,
    Images,
    Network,
    Rows,
    import_keras,
    layer_output,
    pooled,
    refresh,
    run,
    set_weights,
)
from transforms.backbones.spec import BLOCK5_POOL, POOL_NORM, Backbone, Resolved
from transforms.backbones.weights import is_legacy
from transforms.errors import UserError, first_line
from transforms.scratch import temporary_folder

# The deviations of keras/src/applications/efficientnet.py, IMAGENET_STDDEV_RGB.
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def builder(spec: Backbone) -> tuple[Callable[..., Any], Callable[[Floats], Floats]]:
    """Return the family's model function and its own preprocess_input."""
    if spec.weights == "embedded":
        from transforms.backbones import lite

        return lite.builder(spec.name), lite.preprocess_input
    import keras

    return getattr(keras.applications, spec.name), getattr(
        keras.applications, spec.module
    ).preprocess_input


def layer_dimension(resolved: Resolved) -> int:
    """Return how many numbers the vector of ``--feature-layer`` has.

    Raises:
        UserError: The layer does not exist.
    """
    import_keras()
    return int(_feature(_build(resolved), resolved).shape[-1])


def open_named(resolved: Resolved) -> Network:
    """Build and fill a backbone of the table.

    Raises:
        UserError: The weights do not fit.
    """
    keras = import_keras()
    import tensorflow as tf

    model = _build(resolved)
    _fill(model, resolved)
    loaded = model.get_weights()
    if _rescaled(resolved):
        _fold_rescaling(model)
    with_top = _has_top(resolved)
    feature = _feature(model, resolved)
    outputs = [feature, model.output] if with_top else [feature]
    both = keras.Model(model.input, outputs)

    def forward(pixels: Any) -> tuple[Any, Any]:
        vectors, *probabilities = tf.nest.flatten(both(pixels, training=False))
        return vectors, probabilities[0] if probabilities else None

    return Network(
        forward=forward,
        reference=_reference(model, loaded, resolved),
        dimension=int(feature.shape[-1]),
        classes=int(model.output.shape[-1]) if with_top else 0,
        parameters=int(model.count_params()),
    )


def vector_model(resolved: Resolved) -> Any:
    """Build and fill a backbone of the table, up to its vector, as a Keras model to be trained.

    Raises:
        UserError: The weights do not fit.
    """
    keras = import_keras()
    model = _build(resolved)
    _fill(model, resolved)
    if _rescaled(resolved):
        _fold_rescaling(model)
    return keras.Model(model.input, _feature(model, resolved))


def _has_top(resolved: Resolved) -> bool:
    """Tell whether the model has its top: VGG's fits the default size only."""
    assert resolved.backbone
    fits = not resolved.backbone.fixed_top or resolved.input_size[0] == resolved.backbone.size
    return bool(resolved.weights.classes) and fits


def _rescaled(resolved: Resolved) -> bool:
    assert resolved.backbone
    return resolved.backbone.rescaled_after_normalization and resolved.weights.word != "random"


def _build(resolved: Resolved) -> Any:
    """Build the model of this input size without weights, with its top where it can have one."""
    assert resolved.backbone
    build, _ = builder(resolved.backbone)
    shape = (*resolved.input_size, 3)
    if resolved.weights.word == "random":
        import keras

        keras.utils.set_random_seed(0)
    if _has_top(resolved):
        return build(
            weights=None, include_top=True, input_shape=shape, classes=resolved.weights.classes
        )
    return build(weights=None, include_top=False, input_shape=shape, pooling=resolved.config.pool)


def _feature(model: Any, resolved: Resolved) -> Any:
    """Return the symbolic vector: the pooled features, or the output of ``--feature-layer``."""
    spec, pooling, name = resolved.backbone, resolved.config.pool, resolved.feature_layer
    assert spec
    if resolved.config.feature_layer:
        return pooled(layer_output(model, name, how_to_list(spec.name)), pooling, name)
    if not _has_top(resolved):
        return model.output
    if spec.feature == BLOCK5_POOL:
        return pooled(model.get_layer(BLOCK5_POOL).output, pooling, name)
    vector = pooled(_last(model, "GlobalAveragePooling2D").input, pooling, name)
    return _last(model, "LayerNormalization")(vector) if spec.feature == POOL_NORM else vector


def _last(model: Any, kind: str) -> Any:
    return [layer for layer in model.layers if type(layer).__name__ == kind][-1]


def _fill(model: Any, resolved: Resolved) -> None:
    """Load the weights, through a default-size model where only that takes the file's top."""
    spec, weights = resolved.backbone, resolved.weights
    assert spec
    if weights.path and weights.classes and not _has_top(resolved):
        build, _ = builder(spec)
        whole = build(weights=None, include_top=True, classes=weights.classes)
        _load(whole, resolved)
        set_weights(model, whole.get_weights()[: len(model.weights)])
    else:
        _load(model, resolved)


def _load(model: Any, resolved: Resolved) -> None:
    path = resolved.weights.path
    if path is None:
        return
    if path.suffix == ".pth":
        from transforms.backbones.lite import load_embedded

        load_embedded(model, path)
        return
    with temporary_folder() as folder:
        link = folder / ("w.h5" if is_legacy(path) else "w.weights.h5")  # Keras goes by the name
        link.symlink_to(path.resolve())
        try:
            model.load_weights(link)
        except (ValueError, KeyError, OSError) as error:
            raise UserError(
                f"--weights {path}: does not fit {resolved.name} ({first_line(error)})"
            ) from error
    refresh(model)


def _fold_rescaling(model: Any) -> None:
    """Fold Keras' Rescaling(1 / sqrt(deviation)) of weights="imagenet" into Normalization.

    (x - mean) / sqrt(variance) / sqrt(deviation) = (x - mean) / sqrt(variance · deviation).
    """
    normalization = _last(model, "Normalization")
    mean, variance, count = normalization.get_weights()
    normalization.set_weights([mean, variance * _DEVIATION, count])
    normalization.finalize_state()


def _unfolded_pixels(pixels: Floats, loaded: list[np.ndarray]) -> Floats:
    """Return pixels that Normalization alone maps to what Normalization and Rescaling give."""
    # Normalization is the first layer with weights, and its mean comes first.
    mean = loaded[0]
    stretched: Floats = ((pixels / 255 - mean) / np.sqrt(_DEVIATION) + mean) * 255
    return stretched.astype(np.float32)


def _reference(
    model: Any, loaded: list[np.ndarray], resolved: Resolved
) -> Callable[[Images], Rows]:
    """Return Keras' own vectors (include_top=False, pooling) and the model's probabilities."""
    spec = resolved.backbone
    assert spec
    build, preprocess = builder(spec)

    def reference(images: Images) -> Rows:
        import keras

        pixels = np.asarray(preprocess(images.astype(np.float32)))
        probabilities = run(model, pixels) if _has_top(resolved) else None
        if resolved.config.feature_layer:
            return run(keras.Model(model.input, _feature(model, resolved)), pixels), probabilities
        shape = (*resolved.input_size, 3)
        headless = build(
            weights=None, include_top=False, input_shape=shape, pooling=resolved.config.pool
        )
        set_weights(headless, loaded[: len(headless.weights)])
        if _rescaled(resolved):
            pixels = _unfolded_pixels(pixels, loaded)
        return run(headless, pixels), probabilities

    return reference
