"""Writes ``keras_weights.json``: what the installed Keras states of its applications' weight files.

``python -m transforms.backbones.keras_facts`` builds each network and listens to what Keras would
download; it needs no network, some minutes, and 10 GB of memory for the largest. Needed only for
another Keras.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

from transforms.backbones.known_weights import FACTS
from transforms.backbones.named import builder
from transforms.backbones.network import import_keras
from transforms.backbones.spec import Backbone
from transforms.backbones.table import BACKBONES

_SIZES = {
    "MobileNet": [128, 160, 192, 224],
    "MobileNetV2": [96, 128, 160, 192, 224],
}  # one file each


class _AskedForError(Exception):
    """What Keras asked ``get_file`` for; raised to stop it before the download."""


def stated_file(spec: Backbone, include_top: bool, size: int) -> dict[str, Any]:
    """Return name, URL and hash of the file that Keras loads for imagenet at this input size."""
    import keras.src.utils.file_utils as file_utils

    def get_file(fname: str, origin: str, file_hash: str | None = None, **_: Any) -> str:
        raise _AskedForError({"file": fname, "url": origin, "hash": file_hash})

    build, _ = builder(spec)
    original, file_utils.get_file = file_utils.get_file, get_file
    try:
        build(weights="imagenet", include_top=include_top, input_shape=(size, size, 3))
    except _AskedForError as asked:
        facts: dict[str, Any] = asked.args[0]
        return facts
    finally:
        file_utils.get_file = original
    raise AssertionError(f"Keras asked for no file for {spec.name}")


def facts_of(spec: Backbone) -> dict[str, Any]:
    """Build an entry of the JSON file; ``{size}`` stands for the input size in file names."""
    keras = import_keras()
    facts: dict[str, Any] = {}
    build, _ = builder(spec)
    for part, include_top in (("top", True), ("notop", False)):
        model = build(weights=None, include_top=include_top, pooling="avg")  # of the default size
        numbers = sum(math.prod(weight.shape) for weight in model.weights)
        facts[part] = {"arrays": len(model.weights), "numbers": numbers}
        keras.utils.clear_session()
        if spec.weights == "keras":
            facts[part] |= stated_file(spec, include_top, spec.size)
        if spec.name in _SIZES:
            for word in ("file", "url"):
                facts[part][word] = facts[part][word].replace(f"_{spec.size}", "_{size}")
        if include_top:
            # None for MobileNetV3, which Keras builds for any size.
            facts["size"] = model.input_shape[1]
            head = [weight for layer in model.layers for weight in layer.weights][-2]
            facts["per_class"] = math.prod(head.shape[:-1]) + 1
        else:
            facts["dimension"] = int(model.output.shape[-1])
    if spec.name in _SIZES:
        facts["sizes"] = _SIZES[spec.name]
    return facts


def main() -> None:
    """Write the file anew."""
    keras = import_keras()
    facts = {}
    for spec in BACKBONES.values():
        sys.stderr.write(f"{spec.name}\n")
        facts[spec.name] = facts_of(spec)
        keras.utils.clear_session()
    document = {"keras": keras.__version__, "backbones": facts}
    FACTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
