"""ONNX files that cannot be used, or of which something is to be said: one clear line."""

import sys
from pathlib import Path

import pytest
from onnx import TensorProto

from tests.helpers.onnx_nets import NSFW, one_operation, save, small_net
from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.trainable import open_trainable
from transforms.errors import UserError


def _ambiguous(folder: Path) -> str:
    return save(small_net(last=None), folder / "net.onnx")


def _several(folder: Path) -> str:
    return save(small_net(outputs=("hidden", "flat")), folder / "net.onnx")


def _cut_short(folder: Path) -> str:
    (folder / "net.onnx").write_bytes(NSFW.read_bytes()[:500_000])
    return str(folder / "net.onnx")


def _text(folder: Path) -> str:
    (folder / "net.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    return str(folder / "net.onnx")


def _custom(folder: Path) -> str:
    return save(one_operation("Mine\x1b[2J", {"x": ["N", 3, 8, 8]}, "my"), folder / "net.onnx")


def _two_images(folder: Path) -> str:
    inputs = {"a": ["N", 3, 8, 8], "b": ["N", 3, 8, 8]}
    return save(one_operation("Add", inputs), folder / "net.onnx")


def _text_too(folder: Path) -> str:
    """CLIP's text and image in one file; the vector depends on both."""
    return save(one_operation("Add", {"a": ["N", 3, 8, 8], "words": [8]}), folder / "net.onnx")


def _one_for_all(folder: Path) -> str:
    """The mean over all images."""
    return save(one_operation("ReduceMean", {"x": ["N", 3, 8, 8]}), folder / "net.onnx")


def _beyond_the_end(folder: Path) -> str:
    model = small_net()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "data"), ("offset", str(1 << 40)), ("length", "648")):
        tensor.external_data.add(key=key, value=value)
    (folder / "data").write_bytes(b"short")
    return save(model, folder / "net.onnx")


def _gray(folder: Path) -> str:
    return save(one_operation("Relu", {"x": ["N", 1, 8, 8]}), folder / "net.onnx")


def _outside(folder: Path) -> str:
    model = small_net()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd\x1b")
    return save(model, folder / "net.onnx")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (_ambiguous, {}, "its output may be the vector, or the scores of classes; name the vector "
         "by --feature-layer: answer [N, 3] f32; hidden [N, 5] f32."),
        (_several, {}, "has several outputs; name the vector by --feature-layer: hidden [N, 5] "
         "f32; flat [N, 8] f32."),
        (_ambiguous, {"feature_layer": "hiden"}, "there is no such layer; close: hidden"),
        (_ambiguous, {"feature_layer": "hidden", "preprocess": None}, "--preprocess is missing"),
        (_ambiguous, {"feature_layer": "hidden", "input_size": 30}, "takes images of 24x24 only"),
        (_ambiguous, {"feature_layer": "hidden", "layout": "nhwc"}, "which is not nhwc"),
        (_cut_short, {}, "is no ONNX file, or is cut short"),
        (_text, {}, "is no ONNX file, or is cut short"),
        (_custom, {}, "openvino cannot load it (No conversion rule found for operations: my.Mine"),
        (_two_images, {}, "takes a [N, 3, 8, 8] f32, b [N, 3, 8, 8] f32; it must take one image"),
        (_text_too, {}, "needs another input too, words;"),
        (_one_for_all, {}, "4 images do not give 4 vectors"),
        (_beyond_the_end, {"feature_layer": "hidden"}, "openvino cannot load it"),
        (_gray, {}, "takes x [N, 1, 8, 8] f32; it must take RGB images"),
        (_outside, {}, r"keeps weights in '../../etc/passwd\x1b', which is outside its own folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_or_told_is_said_in_one_line(make, options, message, tmp_path):
    path = make(tmp_path)
    with pytest.raises(UserError) as raised:
        resolve(BackboneConfig(**{"backbone": path, "preprocess": "unit", **options}))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_without_openvino_it_says_what_to_install(tmp_path, monkeypatch):
    path = save(small_net(), tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"needs openvino, which is not installed\. pip install"):
        resolve(BackboneConfig(backbone=path, preprocess="unit"))


def test_it_cannot_be_trained(tmp_path):
    path = save(small_net(), tmp_path / "net.onnx")
    with pytest.raises(UserError, match="is an ONNX file, which cannot be trained here"):
        open_trainable(resolve(BackboneConfig(backbone=path, preprocess="unit")))
