"""ADD A TARGET: what can be written with --to, and the module that does it.

Imports nothing heavy, so that the command line can show the words in its help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from transforms.errors import UserError

if TYPE_CHECKING:
    from pipeline.exporting.base import Follower, Job, Mirror

IdKind = Literal["uri", "sha256", "int64", "uuid5"]
# Taken along unless --columns says otherwise.
DEFAULT_COLUMNS = ("label", "score")
_ALL: tuple[IdKind, ...] = ("uri", "sha256", "int64", "uuid5")
_NUMBERS = ("float32", "float16")


@dataclass(frozen=True, slots=True)
class Target:
    """One word of --to."""

    # Where ``open_target(job)`` and ``hint(job)`` are.
    module: str
    # The forms of ids that it takes; the first is the default.
    ids: tuple[IdKind, ...] = _ALL
    # The words of each option; the first is the default. Without words it is any text.
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Whether each call that changes something leaves a folder of its own to load.
    batches: bool = False
    # Whether --dest may end in #NAME.
    named: bool = False

    def open(self, job: Job) -> Follower | Mirror:
        """Open the destination.

        Raises:
            UserError: Its library is not installed, or the destination is invalid.
        """
        opened: Follower | Mirror = import_module(self.module).open_target(job)
        return opened

    def hint(self, job: Job) -> str:
        """Return a line that says how to go on with what was written; "" for none."""
        return str(import_module(self.module).hint(job))


TARGETS: Mapping[str, Target] = {
    "npy": Target("pipeline.exporting.npy", options={"numbers": _NUMBERS}),
    "parquet": Target(
        "pipeline.exporting.parquet",
        options={
            "vector": ("list", "fixed"),
            "numbers": (*_NUMBERS, "float64"),
            "partition": (),
        },
    ),
    "lance": Target("pipeline.exporting.lance"),
    "faiss": Target("pipeline.exporting.faiss_file", ("int64",), {"numbers": _NUMBERS}),
    "qdrant": Target("pipeline.exporting.qdrant", ("uuid5", "int64"), named=True),
    # Its client writes ids into an expression without quoting them, so none is a file's name.
    "milvus": Target("pipeline.exporting.milvus", ("sha256", "int64", "uuid5"), named=True),
    "vertex": Target("pipeline.exporting.vertex", ("uri", "sha256", "uuid5"), batches=True),
    "pinecone": Target("pipeline.exporting.pinecone", ("sha256", "uuid5", "uri"), batches=True),
    "milvus-files": Target("pipeline.exporting.milvus_files", batches=True),
    "projector": Target("pipeline.exporting.projector"),
    "pgvector": Target(
        "pipeline.exporting.pgvector", options={"type": ("auto", "vector", "halfvec")}, named=True
    ),
}


def parse_target(text: str) -> tuple[str, Target, dict[str, str]]:
    """Split ``NAME,OPTION=VALUE…``, as in ``parquet,numbers=float16``.

    Returns:
        The name, the target, and the value of each of its options.

    Raises:
        UserError: There is no such target, option or value.
    """
    name, *pairs = text.split(",")
    if name not in TARGETS:
        raise UserError(f"--to {name!r}: must be open or one of {', '.join(TARGETS)}")
    target = TARGETS[name]
    options = {option: (words or ("",))[0] for option, words in target.options.items()}
    for pair in pairs:
        option, _, value = pair.partition("=")
        if option not in options or not value:
            known = ", ".join(f"{option}=…" for option in options) or "none"
            raise UserError(f"--to {text}: {pair!r} is no option of {name}; there are: {known}")
        words = target.options[option]
        if words and value not in words:
            raise UserError(f"--to {text}: {option} must be {' or '.join(words)}")
        options[option] = value
    return name, target, options
