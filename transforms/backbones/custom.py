"""Check the user's own models: find their facts, ask for the others, refuse what cannot work."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from transforms.backbones import hub, keras_file, onnx_file, saved_model
from transforms.backbones.fetched import fetch_model
from transforms.backbones.inspection import Inspection
from transforms.backbones.labels import labels_sha256, read_labels
from transforms.backbones.model_json import fill, path_beside, read_description
from transforms.backbones.network import CustomFacts, Network
from transforms.backbones.onnx_file import OnnxNetwork
from transforms.backbones.spec import VALUE_MODES, Resolved, Weights, file_sha256
from transforms.backbones.table import find_backbone, is_backbone
from transforms.choices import BackboneConfig
from transforms.errors import UserError
from transforms.storage import local_path

_SUFFIXES = (".keras", ".h5", ".hdf5", ".onnx")
_FOREIGN = {
    ".pth": "PyTorch",
    ".pt": "PyTorch",
    ".tflite": "TensorFlow Lite",
    ".safetensors": "safetensors",
}


class _Format(Protocol):
    """``keras_file``, ``saved_model``, ``onnx_file`` or ``hub``."""

    def read_facts(self, path: Path, config: BackboneConfig) -> CustomFacts: ...
    def open_model(self, resolved: Resolved, path: Path) -> Network | OnnxNetwork: ...


def is_path(backbone: str) -> bool:
    """Tell whether ``--backbone`` names a file or folder rather than a row of the table."""
    return (
        backbone.startswith(hub.PREFIX)
        or "/" in backbone
        or "\\" in backbone
        or backbone.endswith(_SUFFIXES)
        or Path(backbone).exists()
    )


def resolve_custom(config: BackboneConfig) -> Resolved:
    """Check a model of the user's.

    Imports TensorFlow, except for an ONNX file: only Keras can tell what its files hold.
    """
    path = _local(config)
    chosen = _format_of(path)
    if config.layout != "auto" and path.suffix != ".onnx":
        raise UserError(
            f"--layout {config.layout}: {path.name} says itself where its colors are; the option "
            "is for ONNX files"
        )
    if config.weights != "imagenet":
        raise UserError(
            f"--weights {config.weights}: {path.name} brings its own weights; leave the option out"
        )
    stated = read_description(path)
    config = fill(config, stated)
    labels = stated.labels if stated else None
    if config.labels:
        labels = read_labels(config.labels)
    facts = chosen.read_facts(path, config)
    if stated and facts.input_size != stated.input_size:
        said, own = ("x".join(map(str, size)) for size in (stated.input_size, facts.input_size))
        raise UserError(
            f"{path_beside(path)}: says that {path.name} takes images of {said}, and it takes "
            f"{own}; copy both files of one training here"
        )
    value_range = _value_range(config, facts)
    notes = _check_labels(labels, facts, config)
    return Resolved(
        config=replace(config, pooling=facts.pooling or config.pooling),
        name=_name(config, path),
        backbone=None,
        weights=Weights("own", _sha256(path), path, facts.classes),
        labels=labels,
        labels_id=labels_sha256(labels) if labels else None,
        input_size=facts.input_size,
        preprocess=value_range,
        feature_layer=facts.feature_layer,
        dimension=facts.dimension,
        resize=stated.resize if stated else facts.resize,
        resize_needed=facts.resize_needed,
        layout=facts.layout,
        notes=notes,
    )


def inspect(config: BackboneConfig) -> Inspection:
    """Look into a model of the user's, or a backbone of the table.

    Imports TensorFlow, except for an ONNX file.

    Raises:
        UserError: There is none, or it is damaged or of no use here.
    """
    from transforms.backbones import keras_inspection, onnx_inspection

    if is_backbone(config.backbone) or not is_path(config.backbone):
        return keras_inspection.inspect_named(find_backbone(config.backbone))
    path = _local(config)
    chosen = _format_of(path)
    if chosen is onnx_file:
        return onnx_inspection.inspect(path, config)
    if chosen is keras_file:
        return keras_inspection.inspect_keras(path, config)
    if chosen is hub:
        return keras_inspection.inspect_preset(path, config)
    return keras_inspection.inspect_saved_model(path, config)


def open_custom(resolved: Resolved) -> Network | OnnxNetwork:
    """Load the model that was resolved."""
    path = resolved.weights.path
    assert path
    return _format_of(path).open_model(resolved, path)


def _name(config: BackboneConfig, path: Path) -> str:
    """Return a model's name: of a preset that was downloaded, the folder is a number."""
    if config.backbone.startswith(hub.PREFIX):
        return config.backbone.removeprefix(hub.PREFIX).rstrip("/").rpartition("/")[2]
    return path.name


def _local(config: BackboneConfig) -> Path:
    """Return the local path of a model; fetch one in a bucket into the user's cache."""
    if config.backbone.startswith(hub.PREFIX):
        return hub.local_preset(config.backbone.removeprefix(hub.PREFIX), config.stores)
    if "://" not in config.backbone:
        return Path(config.backbone).expanduser()
    return local_path(config.backbone) or fetch_model(config.backbone, config.stores)


def _format_of(path: Path) -> _Format:
    graph = path / "saved_model.pb"
    try:
        found = next(path.iterdir(), None) if path.is_dir() else _first_byte(path)
        below = [file.parent for file in sorted(path.glob("*/saved_model.pb"))]
        is_saved_model = graph.is_file() and _first_byte(graph) is not None
    except FileNotFoundError as error:
        raise UserError(f"--backbone {path}: there is no such file or folder") from error
    except OSError as error:
        raise UserError(
            f"--backbone {path}: cannot be read ({error.strerror}); let the user of this process "
            "read it"
        ) from error
    if is_saved_model:
        return saved_model
    if path.is_dir() and hub.is_preset(path):
        return hub
    if path.is_file() and path.suffix in _SUFFIXES and found:
        return onnx_file if path.suffix == ".onnx" else keras_file
    raise UserError(f"--backbone {path}: {_seen(path, found, below)}")


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _seen(path: Path, found: object, below: list[Path]) -> str:
    """Say what lies at a path that is no model, and what to give instead."""
    give = "give a .keras, .h5 or .onnx file, or a SavedModel folder (with saved_model.pb)"
    if below:
        return f"has no saved_model.pb itself; give {below[-1]}"
    if not found:
        return f"is empty; if it was copied here, copy it again, or {give}"
    if path.is_dir():
        return f"is a folder without saved_model.pb; {give}"
    if path.suffix in _FOREIGN:
        return f"is a file of {_FOREIGN[path.suffix]}, which is not read here; {give}"
    return f"is no model file by its name; {give}"


def _value_range(config: BackboneConfig, facts: CustomFacts) -> str:
    if facts.integral and config.value_range not in (None, "none"):
        raise UserError(
            f"--preprocess {config.value_range}: {Path(config.backbone).name} takes whole numbers "
            "from 0 to 255, and scales them itself: give none"
        )
    if facts.value_range and config.value_range not in (None, facts.value_range):
        raise UserError(
            f"--preprocess {config.value_range}: {Path(config.backbone).name} has its own value "
            f"range ({facts.value_range}); leave the option out"
        )
    if found := facts.value_range or config.value_range:
        return found
    modes = "; ".join(f"{word}: {meaning}" for word, meaning in VALUE_MODES.items())
    hint = (
        f" It has a layer {facts.own_scaling} that scales: probably none."
        if facts.own_scaling
        else ""
    )
    if facts.integral:
        hint = " It takes whole numbers from 0 to 255, and scales them itself: give none."
    path = Path(config.backbone)
    trained = path_beside(path).name
    beside = (
        f" If 'image-features train' made it, copy its {trained} here too, which says this."
        if path.suffix == ".keras"
        else ""
    )
    raise UserError(
        f"--preprocess is missing. Say which pixel values {path.name} was trained on: {modes}; or "
        f"give another mean and deviation of x/255 by --mean and --std.{hint}{beside}"
    )


def _check_labels(
    labels: tuple[str, ...] | None, facts: CustomFacts, config: BackboneConfig
) -> tuple[str, ...]:
    source = (
        f"--labels {config.labels}" if config.labels else str(path_beside(Path(config.backbone)))
    )
    if labels and not facts.classes:
        raise UserError(
            f"{source}: {Path(config.backbone).name} gives {facts.outputs}; labels "
            "need one output [N, classes]. Leave the option out for vectors alone"
        )
    if labels and len(labels) != facts.classes:
        raise UserError(
            f"{source}: has {len(labels)} labels, but {Path(config.backbone).name} "
            f"has {facts.classes} classes"
        )
    if labels or not facts.classes or not config.top_k:
        return ()
    name = Path(config.backbone).name
    return (
        f"{name} has {facts.classes} classes: without --labels there are vectors and no labels",
    )


def _sha256(path: Path) -> str:
    """Hash a file and its weights, or the names and contents of a folder, sorted by path."""
    if path.suffix == ".onnx":
        return onnx_file.files_sha256(path)
    if path.is_file():
        return file_sha256(path)
    if not (path / "saved_model.pb").is_file():
        return hub.files_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()
