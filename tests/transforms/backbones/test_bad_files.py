"""Files that are no model give one line: the file, what was seen, and what to do."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.network import import_keras
from transforms.errors import UserError


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small model as whole.keras, whole.h5, only.weights.h5 and saved/."""
    folder = tmp_path_factory.mktemp("good")
    keras = import_keras()
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    model.save(folder / "whole.keras")
    model.save(folder / "whole.h5")
    model.save_weights(folder / "only.weights.h5")
    model.export(folder / "saved", verbose=False)
    return folder


def _holding(content: bytes) -> Callable[[Path, Path], object]:
    return lambda path, good: path.write_bytes(content)


def _half(path: Path, good: Path) -> None:
    whole = (good / f"whole{path.suffix}").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _weights_alone(path: Path, good: Path) -> None:
    shutil.copy(good / "only.weights.h5", path)


def _without_variables(path: Path, good: Path) -> None:
    shutil.copytree(good / "saved", path, ignore=shutil.ignore_patterns("variables*"))


def _of_a_version(path: Path, good: Path) -> None:
    shutil.copytree(good / "saved", path / "1")


def _without_a_graph(path: Path, good: Path) -> None:
    shutil.copytree(good / "saved", path)
    (path / "saved_model.pb").write_bytes(b"")


def _other_folder(path: Path, good: Path) -> None:
    path.mkdir()
    (path / "note.txt").write_text("no model")


def _custom_layer(path: Path, good: Path) -> None:
    keras = import_keras()

    class Own(keras.layers.Layer):  # type: ignore[name-defined,misc]
        def call(self, tensor: Any) -> Any:
            return tensor

    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(Own()(inputs)))).save(path)


def _two_inputs(path: Path, good: Path) -> None:
    keras = import_keras()
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    keras.Model(inputs, keras.layers.Add()(inputs)).save(path)


def _any_channels(path: Path, good: Path) -> None:
    keras = import_keras()
    inputs = keras.Input((None, None, None))
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(path)


@pytest.mark.parametrize(
    ("name", "make", "line"),
    [
        ("empty.keras", _holding(b""), r"is empty; .*copy it again"),
        ("empty", _holding(b""), r"is empty; .*give a \.keras, \.h5 or \.onnx file"),
        ("text.keras", _holding(b"hello"), r"zip archive, and this is none.*model\.save\(\)"),
        ("text.h5", _holding(b"hello"), r"cannot load it.*copy it again"),
        ("text.txt", _holding(b"hello"), r"is no model file by its name; give a \.keras"),
        ("half.keras", _half, r"cut short\); copy it again"),
        ("half.h5", _half, r"truncated file.*copy it again"),
        ("own.keras", _custom_layer, r"not Keras' own .*model\.export\(\)"),
        ("only.h5", _weights_alone, r"holds weights only; give them by --weights"),
        ("folder", _other_folder, r"is a folder without saved_model\.pb; give"),
        ("saved", _without_variables, r"variables\.index is missing\); copy the whole folder"),
        ("versions", _of_a_version, r"has no saved_model\.pb itself; give \S*versions/1$"),
        ("nothing", _without_a_graph, r"holds no graph; copy the folder again"),
        ("net.pth", _holding(b"\x80\x02"), r"is a file of PyTorch, which is not read here; give"),
        ("net.onnx", _holding(b"\x08\x07"), r"is no ONNX file, or is cut short"),
        ("net.tflite", _holding(b"TFL3"), r"is a file of TensorFlow Lite, which"),
        ("net.safetensors", _holding(b"{}"), r"is a file of safetensors, which"),
        ("two.keras", _two_inputs, r"takes \[\(None, 8, 8, 3\), .*must take one image"),
        (
            "any.keras",
            _any_channels,
            r"takes \[\(None, None, None, None\)\].*x = keras\.Input\(\(height, width, 3\)\)",
        ),
    ],
)
def test_a_backbone_that_is_none_is_one_line(
    name: str, make: Callable[[Path, Path], object], line: str, good: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    make(path, good)
    assert re.search(line, _refused(path, backbone=str(path)))


@pytest.mark.parametrize(
    ("name", "make", "line"),
    [
        ("empty.h5", _holding(b""), "cannot be read as HDF5.*give a"),
        ("net.pth", _holding(b"\x80\x02"), "cannot be read as HDF5.*give a .weights.h5"),
        ("whole.keras", _half, "is a whole model; give it by --backbone"),
        ("folder", _other_folder, "is a folder; give a .weights.h5"),
        ("only.h5", _weights_alone, "does not fit ResNet50: it holds 2 arrays"),
    ],
)
def test_weights_that_are_none_are_one_line(
    name: str, make: Callable[[Path, Path], object], line: str, good: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    make(path, good)
    assert re.search(line, _refused(path, backbone="ResNet50", weights=str(path), preprocess=None))


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_labels_that_are_none_are_one_line(text: str, good: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text, encoding="utf-8")
    assert "is empty; give one label a line" in _refused(
        path, backbone=str(good / "whole.keras"), labels=str(path)
    )


# Root may read everything, so it becomes nobody; in a process of its own, since a change of user
# interrupts every thread, and libraries of this process have threads that do not survive that.
_AS_NOBODY = """
import os, sys
from transforms.backbones import BackboneConfig, resolve
from transforms.errors import UserError
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    resolve(BackboneConfig(backbone=sys.argv[1], preprocess="none"))
except UserError as error:
    print(error)
"""


def test_a_folder_that_may_not_be_read_is_one_line(good: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    shutil.copytree(good / "saved", locked)
    locked.chmod(0)
    words = [sys.executable, "-c", _AS_NOBODY, str(locked)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    locked.chmod(0o700)
    [line] = done.stdout.splitlines()
    assert str(locked) in line
    assert "cannot be read (Permission denied); let the user of this process read it" in line


def test_the_ways_out_lead_out(good: Path, tmp_path: Path) -> None:
    keras = import_keras()
    _any_channels(tmp_path / "any.keras", good)
    model, x = keras.models.load_model(tmp_path / "any.keras"), keras.Input((8, 8, 3))
    keras.Model(x, model(x)).save(tmp_path / "with_colors.keras")
    choice = {"preprocess": "none", "feature_layer": model.name}
    assert (
        resolve(BackboneConfig(backbone=str(tmp_path / "with_colors.keras"), **choice)).dimension
        == 3
    )
    for name in ("whole.keras", "whole.h5", "saved"):
        assert (
            resolve(BackboneConfig(backbone=str(good / name), preprocess="none")).dimension == 192
        )


def _refused(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        resolve(BackboneConfig(**{"preprocess": "none"} | options))
    line = str(error.value)
    assert "\n" not in line
    assert str(path) in line
    return line
