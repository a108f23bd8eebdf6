"""The configuration of a run: what the command line says, checked once, at construction."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from transforms.choices import (
    MAX_IMAGE_BYTES,
    MAX_PIXELS,
    MIB,
    BackboneConfig,
    EngineName,
    Precision,
    ResizeMode,
    check_least,
    check_word,
)
from transforms.errors import UserError
from transforms.storage.settings import Stores, parse_store


@dataclass(frozen=True, slots=True)
class Config:
    """One run. Raises ``UserError`` for a value that cannot be meant."""

    inputs: tuple[str, ...]
    output: str
    network: BackboneConfig = field(default_factory=BackboneConfig)
    resize: ResizeMode = "squash"
    precision: Precision = "float32"
    engine: EngineName = "auto"
    cores_per_worker: int | None = None
    # Of the extraction's workers, as Dataflow's hint says it
    accelerator: str | None = None
    shard_size: int = 2048
    shard_bytes: int = 1024 * MIB
    max_failure_rate: float = 0.1
    max_removed_rate: float = 0.2
    keep_removed: bool = False
    retry_failed: bool = False
    max_image_bytes: int = MAX_IMAGE_BYTES
    max_pixels: int = MAX_PIXELS
    rebuild: bool = False
    dry_run: bool = False
    stall_timeout: float = (
        # Seconds without anything done, after which a run is given up; 0: never
        3600.0
    )
    planned: bool = (
        # Only the shards of a run that was planned before; neither plan nor publish
        False
    )
    # Submit, and leave a job that goes on by itself
    no_wait: bool = False
    # A file to which one line is added, or "-" for standard output
    metrics_json: str | None = None
    metrics_prometheus: str | None = None  # a file that is written anew
    # Where buckets are, as of ``--store``: no secrets
    stores: Stores = ()
    # Options of Beam and its runners, as on its own command line
    beam_args: tuple[str, ...] = ()

    @classmethod
    def of(cls, **options: Any) -> Config:
        """Make a run of flat options, those of the network among them: ``Config.of(inputs=…, output=…, top_k=0)``.

        Raises:
            UserError: An invalid value.
            TypeError: An option that does not exist.
        """
        own = {f.name: options.pop(f.name) for f in fields(cls) if f.name in options}
        network = own.pop("network", None) or BackboneConfig(
            **options, stores=own.get("stores", ())
        )
        return cls(**own, network=network)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UserError("no --input given; name a folder, a prefix, a glob or list:FILE")
        if not self.output:
            raise UserError("no --output given; name a folder or URL for the tables")
        if any(isinstance(value, str) for value in (self.inputs, self.beam_args, self.stores)):
            raise UserError("inputs, beam_args and stores are tuples of strings, not one string")
        _ = [parse_store(text) for text in self.stores]  # raises for what is none
        for name in (
            "shard_size",
            "shard_bytes",
            "max_image_bytes",
            "max_pixels",
            "cores_per_worker",
        ):
            check_least(name, getattr(self, name), 1)
        check_least("stall_timeout", self.stall_timeout, 0)
        for name, kind in (
            ("resize", ResizeMode),
            ("precision", Precision),
            ("engine", EngineName),
        ):
            check_word(name, getattr(self, name), kind)
        for name in ("max_failure_rate", "max_removed_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: a share from 0 to 1"
                )
        self._check_pairs()

    def _check_pairs(self) -> None:
        if self.rebuild and self.keep_removed:
            raise UserError(
                "--rebuild replaces the whole table, and --keep-removed wants rows kept; give one "
                "of them"
            )
        if self.planned and self.dry_run:
            raise UserError(
                "--planned does what was planned, and --dry-run only plans; give one of them"
            )

    @property
    def plan_options(self) -> dict[str, Any]:
        """The options that a plan depends on, besides the inputs and the recipe: another plan for others."""
        names = ("rebuild", "keep_removed", "retry_failed", "max_removed_rate")
        return {name: getattr(self, name) for name in names}
