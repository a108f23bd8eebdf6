"""The user's own Keras models: files of Keras 3 and 2, what is found, and what is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from tests.helpers.nets import LABELS, SIZE, assert_same, exported, net
from transforms.backbones import VALUE_MODES, BackboneConfig, resolve
from transforms.backbones.network import import_keras, run
from transforms.errors import UserError


def _save_as_keras2(model: Any, path: Path) -> None:
    """Write what Keras 2.x wrote.

    batch_input_shape, class names without modules, dtype as a word, inbound nodes as lists.
    """
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    layers, before = [], None
    for layer in model.layers:
        kind = type(layer).__name__
        config = {"name": layer.name, "trainable": True, "dtype": "float32"}
        if kind == "InputLayer":
            config = {
                "name": layer.name,
                "batch_input_shape": [None, SIZE, SIZE, 3],
                "dtype": "float32",
                "sparse": False,
                "ragged": False,
            }
        for key in (
            "filters",
            "kernel_size",
            "strides",
            "padding",
            "activation",
            "units",
            "rate",
            "use_bias",
        ):
            value = getattr(layer, key, None)
            if value is not None:
                config[key] = getattr(
                    value, "__name__", list(value) if isinstance(value, tuple) else value
                )
        inbound = [[[before, 0, 0, {}]]] if before else []
        layers.append(
            {"class_name": kind, "config": config, "name": layer.name, "inbound_nodes": inbound}
        )
        before = layer.name
    config = {"name": "model", "layers": layers, "input_layers": [[layers[0]["name"], 0, 0]],
              "output_layers": [[before, 0, 0]]}  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        file.attrs["keras_version"], file.attrs["backend"] = "2.11.0", "tensorflow"
        save_weights_to_hdf5_group(file.create_group("model_weights"), model)


@pytest.mark.parametrize("kind", ["own.keras", "own.h5", "keras2.h5"])
def test_every_kind_of_file_gives_what_keras_predicts(
    kind: str, images: np.ndarray, labels: str, tmp_path: Path
) -> None:
    model, path = net(), tmp_path / kind
    if kind == "keras2.h5":
        _save_as_keras2(model, path)
    else:
        model.save(path)
    inputs = images.astype(np.float32) / 127.5 - 1
    keras = import_keras()
    hidden = run(keras.Model(model.inputs, model.get_layer("hidden").output), inputs)
    answer = run(model, inputs)

    resolved, graph = exported(tmp_path / "out", backbone=str(path), preprocess="tf", labels=labels)
    vectors, scores, indices = graph(images)
    assert_same(vectors, hidden)
    np.testing.assert_allclose(scores, np.sort(answer)[:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(indices[:, 0], answer.argmax(1))
    assert len(set(answer.argmax(1))) > 1
    assert (resolved.input_size, resolved.dimension, resolved.top_k) == ((SIZE, SIZE), 5, 3)
    assert resolved.recipe_fields == {
        "backbone": kind,
        "weights": "own",
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "input_size": "24x24",
        "preprocess": "tf",
        "feature_layer": "input of answer",
        "pooling": "avg",
        "normalize": "none",
        "top_k": 3,
        "labels": hashlib.sha256("\n".join(LABELS).encode()).hexdigest(),
    }
    with np.load(tmp_path / "out" / "golden.npz") as golden:
        assert_same(graph(golden["images"])[0], golden["vectors"])
        np.testing.assert_array_equal(graph(golden["images"])[2], golden["indices"])
    assert json.loads((tmp_path / "out" / "model.json").read_text())["labels"] == LABELS


def test_layers_may_be_called_as_our_outputs(
    images: np.ndarray, labels: str, tmp_path: Path
) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(2)
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3), name="images")
    x = layers.Flatten(name="indices")(inputs)
    x = layers.Dense(5, "relu", name="features")(x)
    model = keras.Model(inputs, layers.Dense(3, "softmax", name="scores")(x))
    model.save(path := tmp_path / "own.keras")
    answer = model(images.astype(np.float32) / 255, training=False).numpy()
    _, graph = exported(tmp_path / "out", backbone=str(path), preprocess="unit", labels=labels)
    np.testing.assert_allclose(graph(images)[1], np.sort(answer)[:, ::-1], atol=1e-5)


def test_logits_become_probabilities_and_sigmoids_stay(
    images: np.ndarray, labels: str, tmp_path: Path
) -> None:
    for activation in (None, "sigmoid"):
        model = net(activation=activation)
        model.save(tmp_path / "own.keras")
        _, graph = exported(
            tmp_path / "out", backbone=str(tmp_path / "own.keras"), preprocess="unit", labels=labels
        )
        answer = run(model, images / np.float32(255))
        if activation is None:
            powers = np.exp(answer - answer.max(axis=1, keepdims=True))
            answer = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(graph(images)[1], np.sort(answer)[:, ::-1], atol=1e-5)


def test_a_feature_layer_by_name_is_pooled(images: np.ndarray, tmp_path: Path) -> None:
    model = net()
    model.save(tmp_path / "own.keras")
    maps = import_keras().Model(model.inputs, model.get_layer("conv_again").output)
    truth = run(maps, images.astype(np.float32))
    for pooling, pooled in (("avg", truth.mean(axis=(1, 2))), ("max", truth.max(axis=(1, 2)))):
        _, graph = exported(
            tmp_path / "out",
            backbone=str(tmp_path / "own.keras"),
            preprocess="none",
            feature_layer="conv_again",
            pooling=pooling,
        )
        (vectors,) = graph(images)
        assert_same(vectors, pooled)


def test_a_model_of_any_size_needs_the_size(images: np.ndarray, tmp_path: Path) -> None:
    net(size=None).save(tmp_path / "own.keras")
    options: dict[str, Any] = {"backbone": str(tmp_path / "own.keras"), "preprocess": "unit"}
    with pytest.raises(
        UserError, match=r"own\.keras takes images of any size: say which by --input-size"
    ):
        resolve(BackboneConfig(**options))
    resolved, graph = exported(tmp_path / "out", **options, input_size=SIZE)
    assert resolved.input_size == (SIZE, SIZE)
    assert graph(images)[0].shape == (8, 5)


def _refused(tmp_path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        resolve(
            BackboneConfig(
                **{"backbone": str(tmp_path / "own.keras"), "preprocess": "none"} | options
            )
        )
    assert "\n" not in str(error.value)
    return str(error.value)


def test_mistakes_list_the_choices(labels: str, tmp_path: Path) -> None:
    net(scaling=True).save(tmp_path / "own.keras")
    missing = _refused(tmp_path, preprocess=None)
    assert all(f"{mode}: {meaning}" in missing for mode, meaning in VALUE_MODES.items())
    assert "It has a layer scaling that scales: probably none" in missing
    assert "--preprocess 'half': must be caffe or tf" in _refused(tmp_path, preprocess="half")
    assert "close: conv, conv_again" in _refused(tmp_path, feature_layer="Conv")
    assert "image-features backbones --inspect" in _refused(tmp_path, feature_layer="Conv")
    assert "takes images of 24x24 only" in _refused(tmp_path, input_size=32)
    assert "brings its own weights" in _refused(tmp_path, weights="random")
    Path(labels).write_text("a\nb\n", encoding="utf-8")
    assert "has 2 labels, but own.keras has 3 classes" in _refused(tmp_path, labels=labels)


def test_without_labels_there_are_vectors_and_that_is_said(tmp_path: Path) -> None:
    net().save(tmp_path / "own.keras")
    resolved = resolve(BackboneConfig(backbone=str(tmp_path / "own.keras"), preprocess="none"))
    assert resolved.notes == (
        "own.keras has 3 classes: without --labels there are vectors and no labels",
    )
    assert (resolved.top_k, resolved.recipe_fields["labels"]) == (0, None)


def test_other_kinds_of_models_are_refused_with_a_reason(labels: str, tmp_path: Path) -> None:
    keras = import_keras()
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    maps = layers.Conv2D(4, 3, name="last_maps")(inputs)
    keras.Model(inputs, maps).save(tmp_path / "own.keras")
    assert "has no Dense layer whose input would be the vector" in _refused(tmp_path)
    chosen = {"feature_layer": "last_maps"}
    assert "labels need one output [N, classes]" in _refused(tmp_path, labels=labels, **chosen)
    assert (
        resolve(
            BackboneConfig(backbone=str(tmp_path / "own.keras"), preprocess="none", **chosen)
        ).dimension
        == 4
    )

    keras.Model(inputs, layers.Dense(2)(layers.Reshape((-1, 4))(maps))).save(tmp_path / "own.keras")
    assert "--pooling is missing: input of" in _refused(tmp_path)

    gray = keras.Input((SIZE, SIZE, 1))
    keras.Model(gray, layers.Dense(2)(layers.Flatten()(gray))).save(tmp_path / "own.keras")
    assert "it must take one image [N, H, W, 3]" in _refused(tmp_path)

    net().save_weights(tmp_path / "own.weights.h5")
    assert "holds weights only; give them by --weights" in _refused(
        tmp_path, backbone=str(tmp_path / "own.weights.h5")
    )
    (tmp_path / "own.keras").write_bytes(b"no zip")
    assert "Keras cannot load it" in _refused(tmp_path)
    assert "give a .keras, .h5 or .onnx file, or a SavedModel folder" in _refused(
        tmp_path, backbone=str(tmp_path)
    )


@pytest.mark.parametrize("kind", ["own.keras", "own.h5"])
def test_a_file_that_carries_code_is_refused_unless_opted_in(
    kind: str, images: np.ndarray, tmp_path: Path
) -> None:
    keras = import_keras()
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Lambda(lambda tensor: tensor * 2, output_shape=(SIZE, SIZE, 3))(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(inputs, keras.layers.Dense(2)(x)).save(tmp_path / kind)
    options: dict[str, Any] = {"backbone": str(tmp_path / kind), "preprocess": "none"}
    with pytest.raises(UserError, match=r"carries code .* add --allow-code"):
        resolve(BackboneConfig(**options))
    _, graph = exported(tmp_path / "out", **options, allow_code=True)
    assert_same(graph(images)[0], 2 * images.mean(axis=(1, 2), dtype=np.float32))


@pytest.mark.parametrize(
    ("module", "function", "arguments"),
    [
        ("os", "system", {}),
        ("keras.utils", "get_file", {"fname": "got", "origin": "file:///etc/hostname"}),
        ("keras.config", "enable_unsafe_deserialization", {}),
    ],
)
def test_a_configuration_that_names_a_function_is_refused(
    module: str, function: str, arguments: dict[str, str], tmp_path: Path
) -> None:
    """A Lambda layer without a lambda: as harmful, and no marshalled code to be seen."""
    keras = import_keras()
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Lambda(lambda tensor: tensor * 2, output_shape=(SIZE, SIZE, 3))(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(inputs, keras.layers.Dense(2)(x)).save(tmp_path / "plain.keras")
    with ZipFile(tmp_path / "plain.keras") as plain, ZipFile(tmp_path / "own.keras", "w") as own:
        for name in plain.namelist():
            content = plain.read(name)
            if name == "config.json":
                config = json.loads(content)
                layer = next(
                    layer for layer in config["config"]["layers"] if layer["class_name"] == "Lambda"
                )
                named = {
                    "module": module,
                    "class_name": "function",
                    "config": function,
                    "registered_name": function,
                }
                layer["config"] |= {
                    "function": named,
                    "arguments": {**arguments, "cache_dir": str(tmp_path)},
                }
                content = json.dumps(config).encode()
            own.writestr(name, content)
    before = sorted(tmp_path.rglob("*"))
    _refused(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UserError, match="carries code"):  # safe mode is still on for others
        resolve(BackboneConfig(backbone=str(tmp_path / "plain.keras"), preprocess="none"))


def test_a_layer_that_is_not_keras_own_names_the_way_out(tmp_path: Path) -> None:
    keras = import_keras()

    class Twice(keras.layers.Layer):  # type: ignore[name-defined,misc]
        def call(self, tensor: Any) -> Any:
            return tensor * 2

    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Flatten()(Twice()(inputs))
    keras.Model(inputs, keras.layers.Dense(2)(x)).save(tmp_path / "own.keras")
    message = _refused(tmp_path)
    assert "uses a layer that is not Keras' own" in message
    assert "model.export()" in message
