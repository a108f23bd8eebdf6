"""What the user can get wrong about a backbone of the table, and what a choice comes to."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.nets import exported, pixels
from transforms.backbones import BackboneConfig, model_id, resolve
from transforms.backbones.network import import_keras
from transforms.errors import UserError


def _labels(path: Path, count: int) -> str:
    path.write_text("".join(f"class {i}\n" for i in range(count)), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "ResNet5O"}, "did you mean ResNet50"),
        ({"backbone": "models/none.keras"}, "there is no such file or folder"),
        ({"pooling": "mean"}, "--pooling 'mean': must be avg or max"),
        ({"normalize": "l1"}, "--normalize 'l1': must be none or l2"),
        ({"top_k": -1}, "--top-k -1: must be 0"),
        ({"input_size": 0}, "--input-size 0: must be at least 1"),
        ({"input_size": 31}, "--input-size 31: efficientnet_lite0 needs at least 32"),
        ({"backbone": "InceptionV3", "weights": "random", "input_size": 74}, "needs at least 75"),
        ({"preprocess": "tf"}, "efficientnet_lite0 has its own value range"),
        ({"weights": "ftp://host/w.h5"}, "ftp:// is not supported"),
        ({"weights": "nowhere.h5"}, "there is no such file; give imagenet, random, or"),
        ({"labels": "nowhere.txt"}, "--labels nowhere.txt: cannot be read"),
        ({"feature_layer": "head_con"}, "there is no such layer; close: head_conv"),
        ({"feature_layer": "zzz"}, "the last ones are .*predictions.*backbones --inspect"),
    ],
)
def test_a_mistake_is_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        resolve(BackboneConfig(**options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"a\n\nb\n", "line 2 is empty"), (b"\xff\xfe\x00", "is no UTF-8 text")],
)
def test_a_labels_file_that_cannot_be_meant(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        resolve(BackboneConfig(labels=str(tmp_path / "labels.txt")))


def test_a_wrong_number_of_labels_names_both_counts(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"has 7 labels, but the weights of efficientnet_lite0 .* have 1000 classes"
    ):
        resolve(BackboneConfig(labels=_labels(tmp_path / "labels.txt", 7)))


def test_recipe_fields_say_what_determines_a_vector() -> None:
    assert resolve(BackboneConfig()).recipe_fields == {
        "backbone": "efficientnet_lite0",
        "weights": "imagenet",
        "weights_sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "input_size": "224x224",
        "preprocess": "lite",
        "feature_layer": "pool",
        "pooling": "avg",
        "normalize": "none",
        "top_k": 5,
        "labels": "imagenet",
    }


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "random"},
        {"pooling": "max"},
        {"normalize": "l2"},
        {"input_size": 192},
        {"top_k": 3},
        {"top_k": 0},
    ],
)
def test_every_choice_changes_the_recipe_and_the_export(options: dict[str, Any]) -> None:
    plain, other = resolve(BackboneConfig()), resolve(BackboneConfig(**options))
    assert plain.recipe_fields != other.recipe_fields
    assert model_id(plain) != model_id(other)


def test_labels_set_the_classes_of_random_weights(tmp_path: Path) -> None:
    labels = _labels(tmp_path / "labels.txt", 3)
    resolved = resolve(BackboneConfig(backbone="ResNet50", weights="random", labels=labels))
    assert (resolved.weights.classes, resolved.top_k, resolved.labels) == (
        3,
        3,
        ("class 0", "class 1", "class 2"),
    )
    assert resolved.recipe_fields["weights_sha256"] == "random-seed-0"
    assert len(str(resolved.recipe_fields["labels"])) == 64


def test_random_weights_are_the_same_each_time(tmp_path: Path, photos: Path) -> None:
    images, options = (
        pixels(photos, 32, "coffee camera"),
        {"backbone": "MobileNet", "weights": "random"},
    )
    first = exported(tmp_path / "a", **options, input_size=32)[1](images)[0]
    second = exported(tmp_path / "b", **options, input_size=32)[1](images)[0]
    assert (first == second).all()
    assert (tmp_path / "a" / "graph.pb").read_bytes() == (tmp_path / "b" / "graph.pb").read_bytes()


def test_weights_without_a_top_are_said_to_give_no_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from keras.applications import MobileNetV3Small

    import_keras()
    weights = tmp_path / "mine.weights.h5"
    MobileNetV3Small(weights=None, include_top=False, input_shape=(64, 64, 3)).save_weights(weights)
    with caplog.at_level(logging.WARNING):
        resolved = resolve(BackboneConfig(backbone="mobilenet-v3-small", weights=str(weights)))
    assert resolved.notes == ("mine.weights.h5 has no top: there are vectors and no labels",)
    assert resolved.notes[0] in caplog.text
    assert (resolved.labels, resolved.top_k, resolved.dimension) == (None, 0, 576)
    labels = _labels(tmp_path / "labels.txt", 1000)
    with pytest.raises(UserError, match="has no top, so there is nothing to label"):
        resolve(BackboneConfig(backbone="MobileNetV3Small", weights=str(weights), labels=labels))
