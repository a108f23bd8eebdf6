"""The weight files that Keras knows: names, URLs, hashes and sizes, and Keras' own cache.

``keras_weights.json`` holds what Keras 3.15 states; ``python -m transforms.backbones.keras_facts``
writes it again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transforms.backbones.spec import Backbone
from transforms.errors import UserError, first_line

FACTS = Path(__file__).with_name("keras_weights.json")
# Seconds without a byte, after which a download has failed
_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class KnownFile:
    """One weight file of keras.applications."""

    backbone: str
    has_top: bool
    name: str
    url: str
    # md5 (32 digits) or sha256 (64); Keras states none for MobileNet v1 and v2
    hash: str | None


@dataclass(frozen=True, slots=True)
class Contents:
    """How much a weight file holds, by which a file is known to have a top or not."""

    arrays: int
    numbers: int


@functools.cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(FACTS.read_text(encoding="utf-8"))["backbones"]
    return facts


def contents(spec: Backbone, has_top: bool) -> Contents:
    """Return what a file of this backbone holds, with the top for 1000 classes or without."""
    part = _facts()[spec.name]["top" if has_top else "notop"]
    return Contents(part["arrays"], part["numbers"])


def numbers_per_class(spec: Backbone) -> int:
    """Return how many numbers one more class adds to the top: its weights and its bias."""
    return int(_facts()[spec.name]["per_class"])


def known_file(name: str) -> KnownFile | None:
    """Return the file of keras.applications that is called ``name``."""
    return _files_by_name().get(name)


def imagenet_file(spec: Backbone, size: int) -> KnownFile:
    """Return the file, with top, that Keras loads for weights="imagenet" at this input size.

    MobileNet v1 and v2 have one for each of a few sizes; Keras takes that for 224 at all others.
    """
    facts = _facts()[spec.name]
    return _file(spec.name, True, size if size in facts.get("sizes", ()) else spec.size)


@functools.cache
def _files_by_name() -> dict[str, KnownFile]:
    known = {}
    for backbone, facts in _facts().items():
        for part, has_top in (("top", True), ("notop", False)):
            if "file" not in facts[part]:
                continue
            for size in facts.get("sizes", (0,)):
                file = _file(backbone, has_top, size)
                known[file.name] = file
    return known


def _file(backbone: str, has_top: bool, size: int) -> KnownFile:
    part = _facts()[backbone]["top" if has_top else "notop"]
    name, url = (part[word].replace("{size}", str(size)) for word in ("file", "url"))
    return KnownFile(backbone, has_top, name, url, part["hash"])


def matches(file: KnownFile, path: Path) -> bool:
    """Tell whether ``path`` has the hash that Keras states; true where it states none."""
    if file.hash is None:
        return True
    with path.open("rb") as opened:
        return (
            hashlib.file_digest(opened, "md5" if len(file.hash) == 32 else "sha256").hexdigest()
            == file.hash
        )


def keras_home() -> Path:
    """Return Keras' cache: $KERAS_HOME or ~/.keras; a temporary folder if not writable."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    return home if os.access(existing, os.W_OK) else Path(tempfile.gettempdir()) / ".keras"


def fetch(file: KnownFile) -> Path:
    """Return the file in Keras' cache; let Keras download it if it is missing.

    Imports TensorFlow only for a download.

    Raises:
        UserError: The download fails. The message names the ways to do without it.
    """
    cached = keras_home() / "models" / file.name
    if cached.exists() and matches(file, cached):
        return cached
    from transforms.backbones.network import import_keras

    keras, before = import_keras(), socket.getdefaulttimeout()
    cached.parent.mkdir(parents=True, exist_ok=True)
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar is no result
            return Path(
                keras.utils.get_file(
                    file.name,
                    file.url,
                    cache_dir=str(keras_home()),
                    cache_subdir="models",
                    file_hash=file.hash,
                )
            )
    except Exception as error:  # Keras raises its bare class
        raise UserError(
            f"--weights imagenet: Keras could not download {file.url} ({first_line(error)}). "
            f"Without network, put that file at {cached}, or give it by --weights PATH; "
            "the backbone efficientnet_lite0 needs no download"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
