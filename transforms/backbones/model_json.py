"""The ``model.json`` beside a ``model.keras``: how the model was trained, so that nobody need ask.

``image-features train --unfreeze`` writes both files. The description has the model's own name with
the ending ``.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from transforms.backbones.labels import is_text
from transforms.backbones.spec import Resolved, file_sha256
from transforms.choices import BackboneConfig, ResizeMode, ValueMode
from transforms.errors import UserError
from transforms.mean_std import read_mean_std, value_options

# The file's mark. A .json without it is somebody else's, and is not read.
_FORMAT = "beam-image-features model"
_VERSION = 1
_WORDS = {"resize": ResizeMode, "preprocess": ValueMode}


@dataclass(frozen=True, slots=True)
class Description:
    """How a model takes images, and what it gives."""

    sha256: str  # of the model's file, 64 hexadecimal digits
    input_size: tuple[int, int]  # height, width
    resize: ResizeMode
    preprocess: str  # of transforms.preprocess.ValueRange
    # The layer whose output [N, D] is the vector.
    feature_layer: str
    labels: tuple[str, ...]  # one for each class
    # How it was trained: anything that JSON holds.
    training: Mapping[str, Any] = field(default_factory=dict)


def path_beside(model: Path) -> Path:
    """Return where the description of a model lies."""
    return model.with_suffix(".json")


def encode(description: Description) -> bytes:
    """Return the content of the file."""
    facts = {
        "format": _FORMAT,
        "version": _VERSION,
        "sha256": description.sha256,
        "input_size": list(description.input_size),
        "resize": description.resize,
        "preprocess": description.preprocess,
        "feature_layer": description.feature_layer,
        "labels": list(description.labels),
        "training": dict(description.training),
    }
    return (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode()


def read_description(model: Path) -> Description | None:
    """Read the description beside a ``.keras`` file; return None when there is none.

    Raises:
        UserError: It cannot be read, is damaged, or belongs to another model.
    """
    path = path_beside(model)
    if model.suffix != ".keras" or not path.is_file():
        return None
    facts = _facts(path)
    if facts is None:
        return None
    if facts.get("version") != _VERSION:
        raise UserError(
            f"{path}: has version {facts.get('version')!r}, and this program reads version "
            f"{_VERSION}; use the version of the program that wrote it, or a newer one"
        )
    try:
        found = _decoded(facts)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    sha256 = file_sha256(model)
    if found.sha256 != sha256:
        raise UserError(
            f"{path}: belongs to another model (sha256 {found.sha256[:12]}…, but {model.name} has "
            f"{sha256[:12]}…); copy both files of one training here, or train again"
        )
    return found


def fill(config: BackboneConfig, stated: Description | None) -> BackboneConfig:
    """Return the options with what the description says, where nothing else was asked for.

    Raises:
        UserError: An option contradicts the description.
    """
    if stated is None:
        return config
    name = Path(config.backbone).name
    check_agrees(name, "preprocess", config.value_range, stated.preprocess)
    check_agrees(name, "input-size", config.input_size, stated.input_size[0])
    return replace(
        config,
        **value_options(stated.preprocess),
        feature_layer=config.feature_layer or stated.feature_layer,
        # Of a model that takes images of any size.
        input_size=stated.input_size[0] if len(set(stated.input_size)) == 1 else None,
    )


def resize_of(network: Resolved, asked: ResizeMode | None) -> ResizeMode:
    """Return how images are resized: as asked for, or as the network was trained.

    Raises:
        UserError: The two contradict each other, or the one way that has to be asked for is not.
    """
    if network.resize_needed and asked != network.resize:
        raise UserError(network.resize_needed)
    if network.resize and asked not in (None, network.resize):
        raise UserError(
            f"--resize {asked}: {network.name} was trained with {network.resize}, as the file "
            "beside it says; leave the option out"
        )
    return asked or network.resize or "squash"


def check_agrees(name: str, option: str, given: object, stated: object) -> None:
    """Check that an option, if given, is what the model was trained with.

    Raises:
        UserError: It is not.
    """
    if given is not None and given != stated:
        raise UserError(
            f"--{option} {given}: {name} was trained with {stated}, as "
            f"{path_beside(Path(name)).name} says; leave the option out"
        )


def _facts(path: Path) -> dict[str, Any] | None:
    """Return what the file holds; None for a file of another program."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); let the user of this process read it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "no JSON") from error
    return facts if isinstance(facts, dict) and facts.get("format") == _FORMAT else None


def _decoded(facts: Mapping[str, Any]) -> Description:
    """Check and convert; raises ``KeyError``, ``TypeError`` or ``ValueError``."""
    height, width = facts["input_size"]
    labels = facts["labels"]
    for word, kind in _WORDS.items():
        own = word == "preprocess" and read_mean_std(str(facts[word]))
        if facts[word] not in get_args(kind) and not own:
            raise ValueError(f"{word} is {facts[word]!r}")
    if not (type(height) is type(width) is int and min(height, width) > 0):
        raise ValueError(f"input_size is {facts['input_size']!r}")
    if not (isinstance(labels, list) and labels and all(map(is_text, labels))):
        raise ValueError("labels is no list of texts")
    for word in ("sha256", "feature_layer"):
        if not is_text(facts[word]):
            raise ValueError(f"{word} is {facts[word]!r}")
    return Description(
        sha256=facts["sha256"],
        input_size=(height, width),
        resize=facts["resize"],
        preprocess=facts["preprocess"],
        feature_layer=facts["feature_layer"],
        labels=tuple(labels),
        training=dict(facts.get("training") or {}),
    )


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: is damaged ({what}); copy it again together with the model. Or delete it, and "
        "say by --preprocess, --labels and --feature-layer what it said"
    )
