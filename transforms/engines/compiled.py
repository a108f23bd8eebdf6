"""Keep what OpenVINO compiles in the user's cache: loading it takes half the time of compiling."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from transforms.engines.base import ExportedModel
from transforms.engines.models import cache_folder, sums_of

_LOG = logging.getLogger(__name__)
# A file begins with the SHA-256 of the rest, so that damage is seen before OpenVINO reads it.
_DIGEST = 32


def kept_file(
    core: Any, model: ExportedModel, settings: Mapping[str, Any], batch: int
) -> Path | None:
    """Return where a network belongs that is compiled in this way, on this processor.

    Args:
        core: OpenVINO's ``Core``.
        model: The exported network.
        settings: What the network is compiled with.
        batch: Images of a batch.

    Returns:
        A file in the user's cache, there or not; None for an export without sums, or a user
        without a cache.
    """
    import openvino as ov

    sums = sums_of(model.directory)
    if sums is None:
        return None
    processor = [
        core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    ]
    way = (ov.get_version(), processor, sorted(settings.items()), batch, model.input_size, sums)
    name = hashlib.sha256(repr(way).encode()).hexdigest()
    # A worker's user may have no home.
    with suppress(RuntimeError):
        return cache_folder().parent / "openvino" / name
    return None


def load_kept(core: Any, path: Path, settings: Mapping[str, Any]) -> Any:
    """Load a compiled network; None if there is none, or if it is damaged."""
    try:
        data = path.read_bytes()
        network = data[_DIGEST:]
        if hashlib.sha256(network).digest() == data[:_DIGEST]:
            return core.import_model(network, "CPU", dict(settings))
        seen = "it is not what was written"
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        seen = str(error).strip().splitlines()[-1]
    _LOG.debug("the compiled network %s is made anew: %s", path, seen)
    return None


def keep(compiled: Any, path: Path) -> None:
    """Write a compiled network, whole or not at all. A cache that takes no file changes nothing."""
    scratch = None
    try:
        network: bytes = compiled.export_model().getvalue()
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(network).digest())
            file.write(network)
        Path(scratch).replace(path)
    except (OSError, RuntimeError) as error:
        _LOG.debug("the compiled network is not kept: %s", error)
        if scratch:
            with suppress(OSError):
                Path(scratch).unlink()
