"""A mean and a deviation as options, as text of a recipe, and as what they do to pixels."""

import numpy as np
import pytest

from pipeline.targets import split_backbone
from transforms.backbones import BackboneConfig
from transforms.errors import UserError
from transforms.mean_std import read_mean_std, value_options
from transforms.preprocess import ValueRange

CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def test_the_text_of_a_recipe_gives_the_same_numbers():
    config = BackboneConfig(mean=list(CLIP[0]), std=CLIP[1])
    text = config.value_range
    assert text == ("mean 0.48145466,0.4578275,0.40821073 std 0.26862954,0.26130258,0.27577711")
    assert read_mean_std(text) == CLIP
    assert BackboneConfig(**value_options(text)).value_range == text
    assert value_options("torch") == {"preprocess": "torch", "mean": None, "std": None}
    tiny = BackboneConfig(mean=(-1e-07, 0, 1), std=(1e-05, 1, 2e16)).value_range
    assert read_mean_std(tiny) == ((-1e-07, 0, 1), (1e-05, 1, 2e16))


@pytest.mark.parametrize("text", ["tf", "mean 1,2,3", "mean 1,2,3 std 1,2", "mean a,2,3 std 1,2,3",
                                  "mean 1e,2,3 std 1,2,3", ""])  # fmt: skip
def test_other_texts_are_none(text):
    assert read_mean_std(text) is None
    with pytest.raises(ValueError, match="unknown value range"):
        ValueRange(text or "x")(np.zeros((1, 1, 3), np.uint8)) if text != "tf" else ValueRange("x")


def test_pixels_are_those_of_torchvision():
    pixels = np.random.RandomState(0).randint(0, 256, (5, 4, 3), np.uint8)
    values = ValueRange(BackboneConfig(mean=CLIP[0], std=CLIP[1]).value_range)(pixels)
    assert values.dtype == np.float32
    expected = (pixels / 255 - np.array(CLIP[0])) / np.array(CLIP[1])
    assert np.abs(values - expected).max() < 1e-6
    torch = BackboneConfig(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).value_range
    assert np.array_equal(ValueRange(torch)(pixels), ValueRange("torch")(pixels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (0.5, 0.5, 0.5)}, "--std is missing: give --mean and --std together"),
        ({"std": (0.5, 0.5, 0.5)}, "--mean is missing"),
        ({"mean": (0.5, 0.5), "std": (1, 1, 1)}, "--mean (0.5, 0.5): must be three numbers"),
        ({"mean": (0.5, 0.5, True), "std": (1, 1, 1)}, "must be three numbers"),
        ({"mean": (0.5, 0.5, float("nan")), "std": (1, 1, 1)}, "must be three numbers"),
        ({"mean": (0, 0, 0), "std": (1, 0, 1)}, "--std 1.0,0.0,1.0: must be above 0"),
        ({"mean": (0, 0, 0), "std": (1, 1, 1), "preprocess": "tf"}, "give either it, or --mean"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError) as raised:
        BackboneConfig(**options)
    assert message in str(raised.value)


def test_they_are_options_inside_a_backbone_too():
    name, options = split_backbone("a.onnx,mean=0.5,0.4,0.3,std=1,2,3,layout=nhwc")
    assert (name, options) == (
        "a.onnx",
        {"mean": (0.5, 0.4, 0.3), "std": (1.0, 2.0, 3.0), "layout": "nhwc"},
    )
    with pytest.raises(UserError, match=r"--mean 0\.5,x: must be three numbers with commas"):
        split_backbone("a.onnx,mean=0.5,x")
