"""ONNX files: the vectors and labels of onnxruntime, for real files and for every convention."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers.nets import exported, pixels
from tests.helpers.onnx_nets import (
    MEAN,
    NSFW,
    ORIENTATION,
    SIZE,
    STD,
    needs_orientation,
    one_operation,
    ort_says,
    save,
    small_net,
)
from transforms.backbones import BackboneConfig, export, resolve
from transforms.backbones import onnx_run as onnx_run_module
from transforms.backbones.head import HeadFacts, encode
from transforms.backbones.spec import file_sha256
from transforms.engines import EngineConfig, load_engine
from transforms.errors import UserError

TORCH = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def standard(images: np.ndarray, mean: list[float], std: list[float]) -> np.ndarray:
    """Return (x / 255 - mean) / std as torch takes it, [N, 3, H, W]."""
    values = (images / np.float64(255) - mean) / std
    return values.transpose(0, 3, 1, 2).astype(np.float32)


def caffe(images: np.ndarray) -> np.ndarray:
    return images[..., ::-1].astype(np.float32) - np.float32([103.939, 116.779, 123.68])


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    spread = np.abs(theirs - theirs.mean(axis=0)).max()
    assert spread > 100 * tolerance * np.abs(theirs).max(), "the photos are too alike"
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize(
    ("path", "preprocess", "vector", "answer", "classes", "scale"),
    [
        pytest.param(
            ORIENTATION, "torch", "p2o.pd_op.flatten.0.0", "fetch_name_0", 4,
            lambda x: standard(x, *TORCH), id="orientation", marks=needs_orientation,
        ),
        pytest.param(NSFW, "caffe", "Reshape:0", "outputs", 2, caffe, id="nsfw"),
    ],
)  # fmt: skip
def test_a_real_file_gives_the_vectors_and_labels_of_onnxruntime(
    path, preprocess, vector, answer, classes, scale, photos, tmp_path
):
    (tmp_path / "labels.txt").write_text("\n".join(map(str, range(classes))))
    resolved, run = exported(
        tmp_path / "made",
        backbone=str(path),
        preprocess=preprocess,
        labels=str(tmp_path / "labels.txt"),
    )
    images = pixels(photos, 224)
    features, scores, indices = run(images)
    close(features, ort_says(path, vector, scale(images)))
    theirs = ort_says(path, answer, scale(images))
    assert resolved.top_k == classes
    assert np.array_equal(indices, np.argsort(-theirs, axis=1))
    assert np.allclose(scores, -np.sort(-theirs, axis=1), atol=1e-5)
    facts = json.loads((tmp_path / "made/model.json").read_text())
    assert facts["network"] == {"format": "openvino", "file": "network.xml"}
    assert facts["reference"] == "onnxruntime"
    # The worker's own check, against the golden vectors of onnxruntime.
    load_engine(EngineConfig(str(tmp_path / "made")))


@pytest.mark.parametrize("batch", ["N", None, 1, 3], ids=["named", "unnamed", "one", "three"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=["f32", "f16"])
def test_every_convention_gives_the_vectors_of_onnxruntime(batch, layout, kind, images, tmp_path):
    path = save(small_net(batch, layout, kind), tmp_path / "net.onnx")
    config = BackboneConfig(backbone=path, mean=MEAN, std=STD)
    resolved = resolve(config)
    assert (resolved.layout, resolved.dimension, resolved.weights.classes) == (layout, 5, 3)
    export(resolved, tmp_path / "made")
    engine = load_engine(EngineConfig(str(tmp_path / "made")))
    values = standard(images, MEAN, STD)
    values = values if layout == "nchw" else values.transpose(0, 2, 3, 1)
    # Half precision has 11 bits; the two programs round at other places.
    tolerance = 1e-5 if kind == TensorProto.FLOAT else 5e-3
    close(engine.run(images).features, ort_says(path, "hidden", values), tolerance)
    assert engine.batch_size == (batch if isinstance(batch, int) else 4)


def test_scores_are_taken_once(images, tmp_path, labels):
    expected = None
    for last in ("Softmax", None):
        path = save(small_net(last=last), tmp_path / f"{last}.onnx")
        _, run = exported(tmp_path / str(last), backbone=path, preprocess="unit", labels=labels)
        _, scores, indices = run(images)
        assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
        expected = (scores, indices) if expected is None else expected
        assert np.allclose(scores, expected[0], atol=1e-6)
        assert np.array_equal(indices, expected[1])
    path = save(small_net(last="Sigmoid"), tmp_path / "sigmoid.onnx")
    _, run = exported(tmp_path / "sigmoid", backbone=path, preprocess="unit", labels=labels)
    theirs = ort_says(path, "answer", standard(images, [0, 0, 0], [1, 1, 1]))
    assert np.allclose(run(images)[1], -np.sort(-theirs, axis=1), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "pooling", "tensor", "reduce"),
    [
        ("map", "avg", "map", lambda x: x.mean(axis=(2, 3))),
        ("map", "max", "map", lambda x: x.max(axis=(2, 3))),
        ("pooled", "max", "pooled", lambda x: x[:, :, 0, 0]),
        ("dense", "avg", "dense", lambda x: x),
        ("answer", "avg", "answer", lambda x: x),
    ],
)
def test_any_tensor_can_be_the_vector(layer, pooling, tensor, reduce, images, tmp_path):
    path = save(small_net(), tmp_path / "net.onnx")
    options = {"backbone": path, "preprocess": "unit", "feature_layer": layer, "pooling": pooling}
    resolved, run = exported(tmp_path / "made", **options)
    assert resolved.recipe_fields["feature_layer"] == layer
    theirs = reduce(ort_says(path, tensor, standard(images, [0, 0, 0], [1, 1, 1])))
    close(run(images)[0], theirs)
    _, run = exported(tmp_path / "l2", normalize="l2", **options)
    close(run(images)[0], theirs / np.linalg.norm(theirs, axis=1, keepdims=True))


def test_an_output_called_an_embedding_is_the_vector(tmp_path):
    model = small_net(outputs=("image_embeds", "answer"))
    model.graph.node[6].output[0] = model.graph.node[7].input[0] = "image_embeds"
    resolved = resolve(
        BackboneConfig(backbone=save(model, tmp_path / "net.onnx"), preprocess="unit")
    )
    assert (resolved.feature_layer, resolved.dimension) == ("image_embeds", 5)
    # The other output ends in softmax: it is that of the classes.
    assert resolved.weights.classes == 3


def test_any_size_and_unclear_layout_are_asked_for(images, tmp_path):
    path = save(small_net(size="side"), tmp_path / "net.onnx")
    with pytest.raises(UserError, match="takes images of any size: say which by --input-size"):
        resolve(BackboneConfig(backbone=path, preprocess="unit"))
    _, run = exported(tmp_path / "made", backbone=path, preprocess="unit", input_size=SIZE)
    theirs = ort_says(path, "hidden", standard(images, [0, 0, 0], [1, 1, 1]))
    close(run(images)[0], theirs)

    path = save(one_operation("Relu", {"x": ["N", 3, 8, 3]}), tmp_path / "unclear.onnx")
    with pytest.raises(UserError, match=r"x \[N, 3, 8, 3\] f32, .* say by --layout: nchw .* nhwc"):
        resolve(BackboneConfig(backbone=path, preprocess="unit"))


def test_weights_beside_the_file_belong_to_it(images, tmp_path):
    plain = save(small_net(), tmp_path / "plain.onnx")
    onnx.save_model(
        small_net(),
        str(tmp_path / "net.onnx"),
        save_as_external_data=True,
        location="net.onnx_data",
        size_threshold=0,
    )
    config = BackboneConfig(backbone=str(tmp_path / "net.onnx"), preprocess="unit")
    before, run = exported(tmp_path / "made", backbone=config.backbone, preprocess="unit")
    facts = json.loads((tmp_path / "made/model.json").read_text())
    assert facts["reference"] == "onnxruntime"
    _, run_plain = exported(tmp_path / "plain", backbone=plain, preprocess="unit")
    assert np.array_equal(run(images)[0], run_plain(images)[0])

    data = tmp_path / "net.onnx_data"
    data.write_bytes(data.read_bytes()[:-4] + b"\0\0\0\1")
    assert resolve(config).weights.sha256 != before.weights.sha256
    data.unlink()
    with pytest.raises(UserError, match=r"keeps weights in net\.onnx_data, which is not beside it"):
        resolve(config)


def test_whole_numbers_are_given_as_they_are(images, tmp_path):
    model = small_net(layout="nhwc")
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node[0].input[0] = "numbers"
    model.graph.node.insert(0, helper.make_node("Cast", ["photo"], ["numbers"], to=1))
    path = save(model, tmp_path / "net.onnx")
    with pytest.raises(UserError, match="takes whole numbers from 0 to 255"):
        resolve(BackboneConfig(backbone=path, preprocess="torch"))
    _, run = exported(tmp_path / "made", backbone=path, preprocess="none")
    theirs = save(small_net(layout="nhwc"), tmp_path / "floats.onnx")
    close(run(images)[0], ort_says(theirs, "hidden", images.astype(np.float32)))


def test_without_onnxruntime_the_golden_vectors_are_marked_as_openvinos_own(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_run_module, "find_spec", lambda name: None)
    path = save(small_net(batch=1), tmp_path / "net.onnx")
    exported(tmp_path / "made", backbone=path, preprocess="unit")
    facts = json.loads((tmp_path / "made/model.json").read_text())
    assert facts["reference"] == "openvino in float32"
    with np.load(tmp_path / "made/golden.npz") as golden:
        images, vectors = golden["images"], golden["vectors"]
    close(vectors, ort_says(path, "hidden", standard(images, [0, 0, 0], [1, 1, 1])))
    load_engine(EngineConfig(str(tmp_path / "made")))


def test_wrong_vectors_are_found_by_the_worker(tmp_path):
    path = save(small_net(), tmp_path / "net.onnx")
    exported(tmp_path / "made", backbone=path, preprocess="unit")
    with np.load(tmp_path / "made/golden.npz") as golden:
        arrays = dict(golden)
    arrays["vectors"] = arrays["vectors"][::-1]
    np.savez(tmp_path / "made/golden.npz", **arrays)
    with pytest.raises(RuntimeError, match="computes other vectors than onnxruntime"):
        load_engine(EngineConfig(str(tmp_path / "made")))


@needs_orientation
def test_each_process_writes_the_same_bytes(tmp_path):
    """Two drivers may write to one folder: the sums of one must fit the graph of the other."""
    options = {"backbone": str(ORIENTATION), "preprocess": "torch"}
    for name in ("a", "b"):
        exported(tmp_path / name, **options)
    assert len(list((tmp_path / "a").iterdir())) == 4
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("normalize", ["none", "l2"])
def test_a_head_is_a_part_of_the_graph(normalize, images, tmp_path):
    """The head takes vectors as they are stored, and gives the scores of Keras."""
    import keras

    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    x = keras.layers.Dense(4, activation="relu")(keras.layers.Normalization()(inputs))
    # Names that the graph itself has.
    outputs = keras.layers.Dense(3, activation="softmax", name="scores")(x)
    head = keras.Model(inputs, outputs, name="features")
    head.save(tmp_path / "head.keras")
    path = save(small_net(), tmp_path / "net.onnx")
    options = {"backbone": path, "preprocess": "unit", "normalize": normalize}
    recipe = resolve(BackboneConfig(**options)).recipe_fields
    facts = HeadFacts(file_sha256(tmp_path / "head.keras"), recipe, ("x", "y", "z"), True)
    (tmp_path / "head.json").write_bytes(encode(facts))
    resolved, run = exported(tmp_path / "made", head=str(tmp_path / "head.keras"), **options)
    assert resolved.labels == ("x", "y", "z")
    vectors, scores, indices = run(images)
    theirs = ort_says(path, "hidden", standard(images, [0, 0, 0], [1, 1, 1]))
    if normalize == "l2":
        theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    close(vectors, theirs)
    expected = head(theirs).numpy()
    assert np.array_equal(indices, np.argsort(-expected, axis=1))
    assert np.allclose(scores, -np.sort(-expected, axis=1), atol=1e-5)
    load_engine(EngineConfig(str(tmp_path / "made")))


def test_no_tensorflow_is_imported(tmp_path):
    path, made = save(small_net(), tmp_path / "net.onnx"), str(tmp_path / "made")
    code = (
        "import sys, pathlib; from transforms.backbones import *; "
        f"r = resolve(BackboneConfig(backbone={path!r}, preprocess='torch')); "
        f"export(r, pathlib.Path({made!r})); "
        "from transforms.engines import EngineConfig, load_engine; "
        f"load_engine(EngineConfig({made!r})); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
