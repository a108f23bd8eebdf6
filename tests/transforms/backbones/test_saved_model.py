"""The user's SavedModels, by Keras' model.export and by TensorFlow; and those with code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.nets import (
    LABELS,
    SIZE,
    assert_same,
    exported,
    module_of,
    net,
    save_module,
)
from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.network import import_keras, run
from transforms.backbones.scores import last_operations
from transforms.errors import UserError


def _classifier(path: Path, size: int | None = SIZE) -> tuple[str, np.ndarray, np.ndarray]:
    import tensorflow as tf

    random = np.random.RandomState(0)
    kernel = random.normal(size=(3, 3, 3, 6)).astype(np.float32)
    dense = random.normal(size=(6, 3)).astype(np.float32)

    def serve(module: Any, pixels: Any) -> dict[str, Any]:
        maps = tf.nn.relu(tf.nn.conv2d(pixels, module.kernel, 2, "SAME"), name="maps")
        return {"logits": tf.matmul(tf.reduce_mean(maps, [1, 2]), module.dense)}

    return save_module(module_of(tf, serve, size, kernel=kernel, dense=dense), path), kernel, dense


def test_a_keras_export_gives_what_keras_predicts(
    images: np.ndarray, labels: str, tmp_path: Path
) -> None:
    model = net()
    model.export(tmp_path / "saved", verbose=False)
    inputs = images.astype(np.float32) / 127.5 - 1
    hidden = run(import_keras().Model(model.inputs, model.get_layer("hidden").output), inputs)
    answer = run(model, inputs)
    resolved, graph = exported(
        tmp_path / "out", backbone=str(tmp_path / "saved"), preprocess="tf", labels=labels
    )
    vectors, scores, indices = graph(images)
    assert_same(vectors, hidden)
    np.testing.assert_allclose(scores, np.sort(answer)[:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(indices[:, 0], answer.argmax(1))
    assert (resolved.name, resolved.input_size, resolved.dimension) == ("saved", (SIZE, SIZE), 5)
    assert str(resolved.recipe_fields["feature_layer"]).startswith("input of ")
    with np.load(tmp_path / "out" / "golden.npz") as golden:
        assert_same(graph(golden["images"])[0], golden["vectors"])
        np.testing.assert_array_equal(graph(golden["images"])[2], golden["indices"])


@pytest.mark.parametrize("classes", [1, 3])
def test_an_export_with_sigmoids_publishes_them_as_they_are(
    classes: int, images: np.ndarray, tmp_path: Path
) -> None:
    keras = import_keras()
    body = net()
    outputs = keras.layers.Dense(classes, activation="sigmoid")(body.get_layer("hidden").output)
    model = keras.Model(body.inputs, outputs)
    model.export(tmp_path / "saved", verbose=False)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS[:classes]), encoding="utf-8")
    _, graph = exported(tmp_path / "out", backbone=str(tmp_path / "saved"), preprocess="unit",
                        labels=str(tmp_path / "labels.txt"))  # fmt: skip
    answer = run(model, images / np.float32(255))
    assert answer.min() > 0.1
    assert answer.max() < 0.95
    np.testing.assert_allclose(graph(images)[1], np.sort(answer)[:, ::-1], atol=1e-5)


def test_sigmoids_inside_a_function_are_found() -> None:
    import tensorflow as tf

    inner = tf.function(lambda x: (x * 2, tf.sigmoid(x)), autograph=False)
    outer = tf.function(lambda x: tf.reshape(inner(x)[1], [-1, 3]), autograph=False)
    traced = outer.get_concrete_function(tf.TensorSpec([None, 3]))
    graph = traced.graph.as_graph_def()
    assert {node.op for node in graph.node} & {"PartitionedCall", "StatefulPartitionedCall"}
    assert last_operations(graph, traced.outputs[0].name) == {"Sigmoid"}


def test_a_plain_module_gives_its_own_numbers(
    images: np.ndarray, labels: str, tmp_path: Path
) -> None:
    import tensorflow as tf

    path, kernel, dense = _classifier(tmp_path / "saved")
    _, graph = exported(tmp_path / "out", backbone=path, preprocess="unit", labels=labels)
    maps = tf.nn.relu(tf.nn.conv2d(images / np.float32(255), kernel, 2, "SAME")).numpy()
    vectors, scores, indices = graph(images)
    assert_same(vectors, maps.mean(axis=(1, 2)))
    answer = tf.nn.softmax(maps.mean(axis=(1, 2)) @ dense).numpy()  # logits: softmax is ours
    np.testing.assert_allclose(scores, np.sort(answer)[:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(indices[:, 0], answer.argmax(1))


def test_an_operation_by_name_is_pooled(images: np.ndarray, tmp_path: Path) -> None:
    import tensorflow as tf

    path, kernel, _ = _classifier(tmp_path / "saved")
    with pytest.raises(
        UserError,
        match=r"no such layer; close: \S*maps.*image-features backbones --inspect",
    ):
        resolve(BackboneConfig(backbone=path, preprocess="none", feature_layer="map"))
    _, graph = exported(
        tmp_path / "out", backbone=path, preprocess="none", feature_layer="maps", pooling="max"
    )
    maps = tf.nn.relu(tf.nn.conv2d(images.astype(np.float32), kernel, 2, "SAME")).numpy()
    assert_same(graph(images)[0], maps.max(axis=(1, 2)))


def test_the_hash_is_of_all_its_files(tmp_path: Path) -> None:
    path, _, _ = _classifier(tmp_path / "saved")
    config = BackboneConfig(backbone=path, preprocess="none")
    before = resolve(config).weights.sha256
    assert resolve(config).weights.sha256 == before
    (tmp_path / "saved" / "assets").mkdir(exist_ok=True)
    (tmp_path / "saved" / "assets" / "note.txt").write_text("other")
    assert resolve(config).weights.sha256 != before


def test_size_and_labels_are_checked(labels: str, tmp_path: Path) -> None:
    path, _, _ = _classifier(tmp_path / "saved", size=None)
    with pytest.raises(UserError, match="takes images of any size: say which by --input-size"):
        resolve(BackboneConfig(backbone=path, preprocess="none"))
    resolved = resolve(BackboneConfig(backbone=path, preprocess="none", input_size=20))
    assert (resolved.input_size, resolved.dimension) == ((20, 20), 6)
    Path(labels).write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(UserError, match="has 2 labels, but saved has 3 classes"):
        resolve(BackboneConfig(backbone=path, preprocess="none", input_size=20, labels=labels))
    with pytest.raises(UserError, match="--preprocess is missing"):
        resolve(BackboneConfig(backbone=path, input_size=20))


def test_a_model_that_gives_no_classes_needs_an_operation(tmp_path: Path) -> None:
    import tensorflow as tf

    path = save_module(
        module_of(tf, lambda _, pixels: {"maps": tf.nn.relu(pixels, name="maps")}),
        tmp_path / "saved",
    )
    with pytest.raises(UserError, match="has no MatMul before one output"):
        resolve(BackboneConfig(backbone=path, preprocess="none"))
    resolved = resolve(BackboneConfig(backbone=path, preprocess="none", feature_layer="maps"))
    assert (resolved.dimension, resolved.top_k) == (3, 0)


def _with_python(tf: Any, pixels: Any, _: str) -> Any:
    return tf.ensure_shape(tf.py_function(lambda x: x, [pixels], tf.float32), pixels.shape)


def _with_numpy(tf: Any, pixels: Any, _: str) -> Any:
    return tf.ensure_shape(tf.numpy_function(lambda x: x, [pixels], tf.float32), pixels.shape)


def _that_reads(tf: Any, pixels: Any, path: str) -> Any:
    return pixels + tf.cast(tf.strings.length(tf.io.read_file(path)), tf.float32)


def _that_writes(tf: Any, pixels: Any, path: str) -> Any:
    with tf.control_dependencies([tf.io.write_file(path, "written")]):
        return tf.identity(pixels)


@pytest.mark.parametrize(
    ("harm", "operation"),
    [
        (_with_python, "EagerPyFunc"),
        (_with_numpy, "PyFunc"),
        (_that_reads, "ReadFile"),
        (_that_writes, "WriteFile"),
    ],
)
def test_operations_that_run_code_or_touch_files_are_refused(
    harm: Any, operation: str, tmp_path: Path
) -> None:
    import tensorflow as tf

    touched = tmp_path / "touched"

    def serve(module: Any, pixels: Any) -> dict[str, Any]:
        return {
            "y": tf.matmul(tf.reduce_mean(harm(tf, pixels, str(touched)), [1, 2]), module.dense)
        }

    path = save_module(module_of(tf, serve, dense=np.ones((3, 2), np.float32)), tmp_path / "saved")
    with pytest.raises(UserError, match=rf"touch files \({operation}\).*--allow-code"):
        resolve(BackboneConfig(backbone=path, preprocess="none"))
    assert not touched.exists()
    if operation == "WriteFile":
        assert (
            resolve(BackboneConfig(backbone=path, preprocess="none", allow_code=True)).dimension
            == 3
        )
        assert touched.exists()


def test_a_broken_folder_is_refused(tmp_path: Path) -> None:
    path, _, _ = _classifier(tmp_path / "saved")
    (tmp_path / "saved" / "variables" / "variables.index").unlink()
    with pytest.raises(UserError, match="TensorFlow cannot load it"):
        resolve(BackboneConfig(backbone=path, preprocess="none"))
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(UserError, match=r"saved_model\.pb cannot be read"):
        resolve(BackboneConfig(backbone=path, preprocess="none"))
