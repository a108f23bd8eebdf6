"""The model.json beside a model.keras: it answers what the options ask, or is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.nets import LABELS, SIZE, net
from tests.helpers.runs import read_features
from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.model_json import Description, encode, read_description
from transforms.backbones.spec import file_sha256
from transforms.errors import UserError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, which tests copy."""
    path = tmp_path_factory.mktemp("model") / "mine.keras"
    net().save(path)
    return path


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.keras"
    path.write_bytes(saved.read_bytes())
    return path


def described(model: Path, **changes: Any) -> Description:
    stated = Description(
        file_sha256(model), (SIZE, SIZE), "crop", "tf", "hidden", tuple(LABELS), {"epochs": 2}
    )
    return replace(stated, **changes)


def test_the_description_replaces_all_options(model: Path) -> None:
    stated = described(model)
    model.with_suffix(".json").write_bytes(encode(stated))
    assert read_description(model) == stated
    resolved = resolve(BackboneConfig(backbone=str(model)))
    assert (resolved.preprocess, resolved.resize) == ("tf", "crop")
    assert (resolved.feature_layer, resolved.labels) == ("hidden", tuple(LABELS))
    by_hand = resolve(
        BackboneConfig(backbone=str(model), preprocess="tf", feature_layer="hidden", top_k=0)
    )
    assert resolved.dimension == by_hand.dimension


def test_extract_resizes_as_the_model_was_trained(
    model: Path, folder: Path, run: Callable[..., Any], tmp_path: Path
) -> None:
    model.with_suffix(".json").write_bytes(encode(described(model)))
    run(folder, backbone=str(model), engine="tensorflow")
    whole = run(folder, backbone=str(model), resize="crop", engine="tensorflow")
    assert whole.unchanged == 6, "the recipe is another one when the resize is given"
    assert set(read_features(tmp_path / "out")["label"].to_pylist()) <= set(LABELS)
    with pytest.raises(UserError, match=r"--resize squash: mine\.keras was trained with crop"):
        run(folder, backbone=str(model), resize="squash")


def test_an_option_may_not_contradict_it(model: Path, labels: str) -> None:
    model.with_suffix(".json").write_bytes(encode(described(model)))
    with pytest.raises(UserError, match=r"--preprocess unit: mine\.keras was trained with tf"):
        resolve(BackboneConfig(backbone=str(model), preprocess="unit"))
    with pytest.raises(UserError, match=rf"--input-size 99: .* was trained with {SIZE}"):
        resolve(BackboneConfig(backbone=str(model), input_size=99))
    chosen = BackboneConfig(backbone=str(model), feature_layer="conv", labels=labels)
    assert resolve(chosen).feature_layer == "conv"


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _with(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(json.loads(content) | changes).encode()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, r"mine\.json: is damaged \(no JSON\); copy it again together with the model"),
        (lambda _: b"\xff\x00", r"is damaged \(no JSON\)"),
        (lambda _: b"[" * 100_000, r"is damaged \(no JSON\)"),
        (_with(preprocess="rgb"), r"is damaged \(ValueError: preprocess is 'rgb'\)"),
        (_with(input_size=[0, 9]), r"is damaged \(ValueError: input_size is \[0, 9\]\)"),
        (_with(input_size=7), "is damaged"),
        (
            _with(input_size=[SIZE, 9]),
            rf"images of {SIZE}x9, and it takes {SIZE}x{SIZE}; copy both",
        ),
        (_with(labels="abc"), "labels is no list of texts"),
        (_with(labels=["a", "b", "\ud800"]), "labels is no list of texts"),
        (_with(sha256=None), "sha256 is None"),
        (_with(version=2), "has version 2, and this program reads version 1"),
        (_with(sha256="f" * 64), r"belongs to another model \(sha256 ffffffffffff…"),
        (_with(labels=["a"]), r"mine\.json: has 1 labels, but mine\.keras has 3 classes"),
        (_with(feature_layer="gone"), "--feature-layer gone: there is no such layer"),
    ],
)
def test_a_bad_description_is_one_line(
    model: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    model.with_suffix(".json").write_bytes(damage(encode(described(model))))
    with pytest.raises(UserError, match=message) as error:
        resolve(BackboneConfig(backbone=str(model)))
    assert "\n" not in str(error.value)


def test_without_a_description_the_options_are_asked_for(model: Path) -> None:
    """A .json of another program, such as Keras' own to_json, is none of ours."""
    for content in (None, b'{"class_name": "Functional"}', b"[]"):
        if content:
            model.with_suffix(".json").write_bytes(content)
        with pytest.raises(UserError, match=r"--preprocess is missing.*copy its mine\.json here"):
            resolve(BackboneConfig(backbone=str(model)))
    model.with_suffix(".json").unlink()
    model.with_suffix(".json").mkdir()
    assert resolve(BackboneConfig(backbone=str(model), preprocess="tf")).resize is None
