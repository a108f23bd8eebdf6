"""The table: every row against what Keras states, and how a name is found."""

import json
import re

import pytest

from tests.helpers.nets import SMALLEST
from transforms.backbones import BACKBONES, find_backbone
from transforms.backbones.keras_facts import stated_file
from transforms.backbones.known_weights import FACTS, imagenet_file
from transforms.backbones.named import builder
from transforms.backbones.network import import_keras
from transforms.errors import UserError
from transforms.preprocess import ValueRange

# Written by keras_facts.py, from Keras itself
STATED = json.loads(FACTS.read_text())["backbones"]
FAMILIES = {
    "VGG": 2,
    "ResNet": 6,
    "MobileNet": 4,
    "EfficientNet": 15,
    "Inception": 2,
    "Xception": 1,
    "DenseNet": 3,
    "NASNet": 2,
    "ConvNeXt": 5,
    "efficientnet_lite": 3,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_row_equals_what_keras_states(name: str) -> None:
    row, stated = BACKBONES[name], STATED[name]
    assert row.dimension == stated["dimension"]
    # MobileNetV3: 224, by its documentation
    assert row.size == (stated["size"] or 224)
    assert row.parameters == pytest.approx(stated["top"]["numbers"] / 1e6, abs=0.06)
    ValueRange(row.mode)


def test_all_families_are_there() -> None:
    assert {
        prefix: sum(name.startswith(prefix) for name in BACKBONES) for prefix in FAMILIES
    } == FAMILIES
    assert sum(FAMILIES.values()) == len(BACKBONES) == len(STATED)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [r.name for r in BACKBONES.values() if r.parameters < 9 and r.name not in SMALLEST]
)
def test_keras_builds_what_the_row_says(name: str) -> None:
    row = BACKBONES[name]
    import_keras()
    build, _ = builder(row)
    model = build(
        weights=None,
        include_top=False,
        pooling="avg",
        input_shape=(row.min_size, row.min_size, 3),
    )
    assert model.output.shape[1] == row.dimension
    assert len(model.weights) == STATED[name]["notop"]["arrays"]
    assert model.count_params() == STATED[name]["notop"]["numbers"]


def test_default_size_and_file_are_those_of_keras() -> None:
    row = BACKBONES["MobileNetV2"]
    import_keras()
    build, _ = builder(row)
    assert build(weights=None).input_shape[1] == row.size
    stated, ours = stated_file(row, include_top=True, size=row.size), imagenet_file(row, row.size)
    assert (ours.name, ours.url, ours.hash) == (stated["file"], stated["url"], stated["hash"])


@pytest.mark.parametrize(("name", "size"), [("MobileNet", 160), ("MobileNetV2", 96)])
def test_mobilenets_have_a_file_for_each_of_some_sizes(name: str, size: int) -> None:
    import_keras()
    assert (
        imagenet_file(BACKBONES[name], size).name
        == stated_file(BACKBONES[name], True, size)["file"]
    )


def test_a_size_without_a_file_takes_that_of_224() -> None:
    import_keras()
    headless = stated_file(BACKBONES["MobileNet"], False, 100)[
        "file"
        # Keras makes its top at such a size for no one
    ]
    assert (
        imagenet_file(BACKBONES["MobileNet"], 100).name
        == headless.replace("_no_top", "")
        == "mobilenet_1_0_224_tf.h5"
    )


@pytest.mark.parametrize("name", ["ResNet50", "resnet50", "RESNET-50", "Res_Net_50"])
def test_a_name_is_found_in_any_spelling(name: str) -> None:
    assert find_backbone(name).name == "ResNet50"
    assert find_backbone("efficientnet-lite0").weights == "embedded"


def test_an_unknown_name_lists_the_close_ones_and_all() -> None:
    with pytest.raises(UserError, match=re.escape("did you mean ResNet50 or")) as error:
        find_backbone("resnet55")
    assert all(name in str(error.value) for name in BACKBONES)
