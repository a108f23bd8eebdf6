"""Presets of KerasHub: the vectors of its own converter and backbone, for every family."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.hub_nets import PLAIN, SIDE, TOWERS, save_preset
from tests.helpers.nets import PHOTOS, assert_same, exported, pixels
from transforms.backbones import BackboneConfig, model_id, resolve
from transforms.backbones.hub_families import FAMILIES
from transforms.backbones.model_json import resize_of
from transforms.errors import UserError
from transforms.preprocess import Resize, ValueRange


@pytest.fixture(scope="module")
def photos_32(photos: Path) -> np.ndarray:
    """Photos as uint8 [N, 32, 32, 3]."""
    return pixels(photos, SIDE)


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A network with real weights."""
    return exported(tmp_path_factory.mktemp("lite"), backbone="efficientnet_lite0")[1]


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A preset of DINOv2 with registers, its backbone and its converter."""
    folder = tmp_path_factory.mktemp("hub") / "tiny_dino"
    return folder, *save_preset("DINOV2", folder)


def expected(family: str, backbone: Any, values: Any) -> np.ndarray:
    """Return the vector of the family's table in docs/backbones.md, by KerasHub itself."""
    import keras

    if family in TOWERS:
        return backbone.get_vision_embeddings(values).numpy()
    outputs = backbone(keras.tree.pack_sequence_as(backbone.input, [values]))
    if family == "HGNetV2":
        outputs = outputs["stage2"]
    outputs = outputs.numpy()
    if family in ("ViT", "DeiT", "DINOV2", "DINOV3"):
        return outputs[:, 0]
    return outputs.mean(axis=tuple(range(1, outputs.ndim - 1)))


def test_every_family_is_tested() -> None:
    assert {f"{family}Backbone" for family in (*PLAIN, *TOWERS)} == set(FAMILIES)


@pytest.mark.parametrize("family", [
    pytest.param(name, marks=() if name in ("DINOV3", "CLIP", "ResNet") else pytest.mark.slow)
    for name in (*PLAIN, *TOWERS)
])  # fmt: skip
def test_the_vectors_are_those_of_keras_hub(
    family: str, photos_32: np.ndarray, tmp_path: Path
) -> None:
    backbone, converter = save_preset(family, tmp_path / "tiny")
    resolved, run = exported(tmp_path / "made", backbone=f"hub:{tmp_path / 'tiny'}")
    truth = expected(family, backbone, converter(photos_32))
    assert_same(run(photos_32)[0], truth)
    assert resolved.dimension == truth.shape[1]
    assert resolved.resize == "crop-bicubic"
    assert resolved.name == "tiny"


def test_all_tokens_but_the_leading_ones_are_pooled(
    dino: tuple[Path, Any, Any], photos_32: np.ndarray, tmp_path: Path
) -> None:
    """Not the first token, nor the four registers after it."""
    folder, backbone, converter = dino
    tokens = backbone({"images": converter(photos_32)}).numpy()
    for pooling, take in (("avg", np.mean), ("max", np.max)):
        resolved, run = exported(tmp_path / pooling, backbone=f"hub:{folder}", pooling=pooling)
        assert_same(run(photos_32)[0], take(tokens[:, 5:], axis=1))
        assert resolved.recipe_fields["pooling"] == pooling


def test_the_converter_is_the_preprocessing(tmp_path: Path) -> None:
    ranges = {"scale": 1 / 127.5, "offset": -1.0}, {"scale": None, "offset": None}
    for number, options in enumerate(ranges):
        folder = tmp_path / str(number)
        _, converter = save_preset(
            "VGG", folder, crop_to_aspect_ratio=False, interpolation="bilinear", **options
        )
        # Without the prefix too: the folder shows what it is.
        resolved = resolve(BackboneConfig(backbone=str(folder)))
        image = np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(1, SIDE, SIDE, 3)
        ours = ValueRange(resolved.preprocess)(image)
        assert np.abs(ours - np.asarray(converter(image))).max() < 1e-5
        assert resolved.resize == "squash"


def test_the_recipe_is_of_what_determines_a_vector(
    dino: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    folder, _, _ = dino
    known = model_id(resolve(BackboneConfig(backbone=f"hub:{folder}")))
    copy = tmp_path / "tiny_dino"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "tokenizer.json").write_text("{}")
    assert model_id(resolve(BackboneConfig(backbone=f"hub:{copy}"))) == known
    facts = json.loads((copy / "image_converter.json").read_text())
    facts["config"]["scale"] = 0.5
    (copy / "image_converter.json").write_text(json.dumps(facts))
    assert model_id(resolve(BackboneConfig(backbone=f"hub:{copy}"))) != known


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preprocess": "tf"}, "has its own value range"),
        ({"feature_layer": "x"}, "has a vector of its own"),
        ({"labels": "LABELS"}, "gives vectors; labels need one output"),
        ({"backbone": "hub:no_such_preset"}, "is no folder, and KerasHub cannot download a preset"),
        ({"backbone": "hub:/nowhere/x"}, "is no folder, and KerasHub cannot download a preset"),
    ],
)
def test_mistakes_are_one_line(
    options: dict[str, Any], message: str, dino: tuple[Path, Any, Any], labels: str
) -> None:
    given = {"backbone": f"hub:{dino[0]}", **options}
    if "labels" in given:
        given["labels"] = labels
    with pytest.raises(UserError, match=message) as raised:
        resolve(BackboneConfig(**given))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda facts: {**facts, "class_name": "BertBackbone"},
         "holds BertBackbone, whose vector is not known"),
        ("config.json", lambda facts: {**facts, "module": "os"}, "holds no backbone"),
        ("config.json", lambda facts: {**facts, "registered_name": "keras_hub>BertBackbone"},
         "KerasHub cannot load it"),
        ("config.json", lambda facts: [], "config.json is none of a preset of KerasHub"),
        ("image_converter.json", lambda facts: {}, "KerasHub cannot load it"),
        ("image_converter.json",
         lambda facts: {**facts, "config": {**facts["config"], "interpolation": "nearest"}},
         "resizes by nearest, which is not done here"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_preset_is_one_line(
    name: str, change: Any, message: str, dino: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    for file in dino[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    facts = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps(change(facts)))
    with pytest.raises(UserError, match=message) as raised:
        resolve(BackboneConfig(backbone=f"hub:{tmp_path}"))
    assert "\n" not in str(raised.value)


def test_whole_photos_give_the_vectors_of_keras_hub(
    dino: tuple[Path, Any, Any], photos: Path, tmp_path: Path
) -> None:
    """Crop and resize as well: KerasHub does both with floats, and ours gives bytes."""
    folder, backbone, converter = dino
    resolved, run = exported(tmp_path, backbone=f"hub:{folder}")
    resize = Resize(SIDE, SIDE, resize_of(resolved, None))
    for name in PHOTOS.split():
        photo = np.asarray(Image.open(next(photos.glob(f"{name}.*"))).convert("RGB"))
        left = run(resize(photo)[None])[0][0]
        right = backbone({"images": converter(photo[None])}).numpy()[0, 0]
        assert left @ right / np.linalg.norm(left) / np.linalg.norm(right) > 0.999


@pytest.mark.parametrize("mode", ["squash-bicubic", "crop-bicubic", "squash", "crop"])
def test_the_kernels_are_those_of_keras_hub(
    mode: str, photos: Path, lite: Callable[[np.ndarray], list[np.ndarray]]
) -> None:
    """Compare vectors of real weights: KerasHub's pixels are not rounded, so they are here."""
    import keras_hub

    converter = keras_hub.layers.ImageConverter(
        image_size=(224, 224),
        antialias=True,
        interpolation=mode.partition("-")[2] or "bilinear",
        crop_to_aspect_ratio=mode.startswith("crop"),
    )
    pictures = [np.asarray(Image.open(next(photos.glob(f"{name}.*"))).convert("RGB"))
                for name in PHOTOS.split()]  # fmt: skip
    theirs = [np.asarray(converter(picture)).round().clip(0, 255) for picture in pictures]
    ours = [Resize(224, 224, mode)(picture) for picture in pictures]
    for left, right in zip(lite(np.stack(ours))[0], lite(np.uint8(theirs))[0], strict=True):
        assert left @ right / np.linalg.norm(left) / np.linalg.norm(right) > 0.999


def test_a_converter_without_antialiasing_needs_an_answer(tmp_path: Path) -> None:
    for number, (options, asked) in enumerate((
        ({}, "crop-bicubic"),
        ({"interpolation": "bilinear", "crop_to_aspect_ratio": False}, "squash"),
    )):  # fmt: skip
        folder = tmp_path / str(number)
        save_preset("ResNet", folder, antialias=False, **options)
        resolved = resolve(BackboneConfig(backbone=f"hub:{folder}"))
        for other in (None, "squash-bicubic"):
            with pytest.raises(UserError, match=f"without antialiasing.*Add --resize {asked} to"):
                resize_of(resolved, other)
        assert resize_of(resolved, asked) == asked


def test_without_the_extra_it_says_what_to_install(
    dino: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(UserError, match=r"keras-hub is not installed\. pip install"):
        resolve(BackboneConfig(backbone=f"hub:{dino[0]}"))


def test_nothing_of_it_is_imported_for_others() -> None:
    code = "import sys, transforms.backbones; sys.exit('keras_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
