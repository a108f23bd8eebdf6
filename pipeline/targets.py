"""Read the options of several backbones: ``--backbone 'ResNet50,weights=PATH,normalize=l2'``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transforms.choices import BackboneConfig
from transforms.errors import UserError
from transforms.mean_std import read_colors

if TYPE_CHECKING:
    from pipeline.config import Config

# Options of a backbone that are options of the run on the command line.
_OF_RUN = ("resize", "precision", "engine")
_OF_NETWORK = tuple(f.name for f in fields(BackboneConfig) if f.name not in ("backbone", "stores"))
_NUMBERS = ("input_size", "top_k")
_COLORS = ("mean", "std")
_YES_NO = {"yes": True, "true": True, "no": False, "false": False}
_OPTION = re.compile(r",(?=[A-Za-z_-]+=)")
# The name of a pair of tables: a part of the names of folders, on every storage.
TABLE_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
# Folders of a run, beside those of its tables.
_TAKEN = ("plan", "stale", "receipts", "listing")


def split_backbone(text: str) -> tuple[str, dict[str, Any]]:
    """Split a ``--backbone`` into its name or path, and the options that are given inside.

    Args:
        text: For example ``ResNet50,normalize=l2,table=resnet``.

    Returns:
        The name, and options of ``BackboneConfig`` and ``Config`` by name. An empty value is None.

    Raises:
        UserError: An option is unknown or invalid.
    """
    name, *words = [text] if Path(text).exists() else _OPTION.split(text)
    options: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        option = key.replace("-", "_")
        known = (*_OF_NETWORK, *_OF_RUN, "table")
        if option not in known or option in options:
            seen = "is given twice" if option in options else "is no option of a backbone"
            allowed = ", ".join(name.replace("_", "-") for name in known)
            raise UserError(f"--backbone {text}: {key} {seen}; the options are {allowed}")
        options[option] = _value(text, option, value)
    if not name:
        raise UserError(f"--backbone {text}: the name of the backbone comes first")
    return name, options


def _value(text: str, option: str, value: str) -> Any:
    """Convert the value of an option to its type.

    Raises:
        UserError: It cannot be converted.
    """
    if not value:
        return None
    if option in _NUMBERS:
        if not value.isdecimal():
            raise UserError(f"--backbone {text}: {option.replace('_', '-')} is a whole number")
        return int(value)
    if option in _COLORS:
        return read_colors(option, value)
    if option == "allow_code":
        if value not in _YES_NO:
            raise UserError(f"--backbone {text}: allow-code is yes or no")
        return _YES_NO[value]
    return value


def target_configs(config: Config) -> tuple[Config, ...]:
    """Return the options of each backbone of a run, the first one first.

    Each has the options of the run, except those that are given inside. The ``table`` of a further
    one is the name of its own pair of tables.

    Raises:
        UserError: An option is invalid, or two backbones would have the same tables.
    """
    if not config.backbones:
        return (config,)
    base = replace(config, backbones=())
    configs: list[Config] = []
    for text in config.backbones:
        name, options = split_backbone(text)
        given = options.pop("table", None)
        table = _table(text, given or _table_of(name)) if configs else ""
        if given and not configs:
            raise UserError(
                f"--backbone {text}: the first backbone has the tables features and errors; "
                "table= is for the others"
            )
        if table.lower() in [other.table.lower() for other in configs]:
            raise UserError(
                f"--backbone {text}: another backbone has the tables {table!r} already; give this "
                "one a name of its own, with ',table=NAME'"
            )
        configs.append(_with_options(base, name, options, table))
    return tuple(configs)


def _table(text: str, name: str) -> str:
    """Return the name of a pair of tables.

    Raises:
        UserError: No folder can have it.
    """
    if not re.fullmatch(TABLE_NAME, name) or name.lower() in _TAKEN:
        raise UserError(
            f"--backbone {text}: {name!r} cannot be the name of a table; use up to 64 letters, "
            f"digits, - and _, and a letter or digit first; not {', '.join(_TAKEN)}"
        )
    return name


def _with_options(config: Config, name: str, options: Mapping[str, Any], table: str = "") -> Config:
    """Return a configuration with another backbone, and with the options that are its own."""
    defaults = {f.name: f.default for f in fields(BackboneConfig)}
    network: dict[str, Any] = {
        option: defaults[option] if value is None else value
        for option, value in options.items()
        if option in _OF_NETWORK
    }
    of_run = {option: options[option] for option in _OF_RUN if options.get(option)}
    return replace(
        config, network=replace(config.network, backbone=name, **network), table=table, **of_run
    )


def _table_of(backbone: str) -> str:
    """Return the name of the tables of a backbone: its own name, or the stem of its file."""
    from transforms.backbones.table import find_backbone, is_backbone

    name = find_backbone(backbone).name if is_backbone(backbone) else _stem(backbone)
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).lstrip("_-")[:64]


def _stem(path: str) -> str:
    name = re.split(r"[/\\]", path.removeprefix("hub:").rstrip("/\\"))[-1]
    return re.sub(r"\.(keras|h5|hdf5|onnx)$", "", name)
