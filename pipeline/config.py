"""The configuration of a run: what the command line says, checked once, at construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transforms.errors import UserError
from transforms.stores import parse_store

if TYPE_CHECKING:
    from transforms.backbones import BackboneConfig

Resize = Literal["squash", "crop"]
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Config:
    """One run. Raises ``UserError`` for a value that cannot be meant."""

    inputs: tuple[str, ...]
    output: str
    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    labels: str | None = None
    feature_layer: str | None = None
    pooling: str = "avg"
    input_size: int | None = None
    preprocess: str | None = None
    normalize: str = "none"
    top_k: int = 5
    allow_code: bool = False
    scores: Literal["softmax", "sigmoid", "none"] | None = None
    resize: Resize = "squash"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    engine: Literal["auto", "tensorflow", "openvino"] = "auto"
    cores_per_worker: int | None = None
    accelerator: str | None = None  # of the extraction's workers, as Dataflow's hint says it
    shard_size: int = 2048
    shard_bytes: int = 1024 * MIB
    max_failure_rate: float = 0.1
    max_removed_rate: float = 0.2
    keep_removed: bool = False
    retry_failed: bool = False
    max_image_bytes: int = 100 * MIB
    max_pixels: int = 100_000_000
    rebuild: bool = False
    dry_run: bool = False
    stall_timeout: float = 3600.0  # seconds without anything done, after which a run is given up; 0: never
    planned: bool = False  # only the shards of a run that was planned before; neither plan nor publish
    no_wait: bool = False  # submit, and leave a job that goes on by itself
    metrics_json: str | None = None  # a file to which one line is added, or "-" for standard output
    metrics_prometheus: str | None = None  # a file that is written anew
    stores: tuple[str, ...] = ()  # where buckets are, as of ``--store``: no secrets
    beam_args: tuple[str, ...] = ()  # options of Beam and its runners, as on its own command line

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UserError("no --input given; name a folder, a prefix, a glob or list:FILE")
        if not self.output:
            raise UserError("no --output given; name a folder or URL for the tables")
        if any(isinstance(value, str) for value in (self.inputs, self.beam_args, self.stores)):
            raise UserError("inputs, beam_args and stores are tuples of strings, not one string")
        _ = [parse_store(text) for text in self.stores]  # raises for what is none
        positive = ("shard_size", "shard_bytes", "max_image_bytes", "max_pixels", "input_size", "cores_per_worker")
        for name, least in (dict.fromkeys(positive, 1) | {"stall_timeout": 0}).items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} {value}: must be at least {least}")
        for name in ("max_failure_rate", "max_removed_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: a share from 0 to 1")
        if self.top_k < 0:
            raise UserError(f"--top-k {self.top_k}: must be 0 (no labels) or more")
        self._check_pairs()

    def _check_pairs(self) -> None:
        if self.rebuild and self.keep_removed:
            raise UserError("--rebuild replaces the whole table, and --keep-removed wants rows kept; give one of them")
        if self.planned and self.dry_run:
            raise UserError("--planned does what was planned, and --dry-run only plans; give one of them")

    @property
    def plan_options(self) -> dict[str, Any]:
        """The options that a plan depends on, besides the inputs and the recipe: another plan for others."""
        names = ("rebuild", "keep_removed", "retry_failed", "max_removed_rate")
        return {name: getattr(self, name) for name in names}

    def backbone_config(self) -> BackboneConfig:
        """The part that chooses the network."""
        from transforms.backbones import BackboneConfig

        names = "backbone weights labels feature_layer pooling input_size preprocess normalize top_k allow_code scores"
        return BackboneConfig(**{name: getattr(self, name) for name in names.split()})
