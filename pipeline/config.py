"""The configuration of a run, validated once, at construction."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from pipeline.targets import target_configs
from transforms.choices import (
    MAX_IMAGE_BYTES,
    MAX_PIXELS,
    MIB,
    BackboneConfig,
    EngineName,
    Precision,
    ResizeMode,
    check_min,
    check_number,
    check_word,
    path_text,
    take_paths,
)
from transforms.errors import UserError
from transforms.storage.settings import Stores, parse_store


@dataclass(frozen=True, slots=True)
class Config:
    """The options of one run.

    A path may be a ``Path`` object; it becomes text.

    Raises:
        UserError: A value is invalid, or two options exclude each other.
    """

    inputs: tuple[str, ...]
    output: str
    network: BackboneConfig = field(default_factory=BackboneConfig)
    # Several backbones in the syntax of ``--backbone``, each with a pair of tables of its own; they
    # replace the one of ``network``, which gives the other options. () for that one alone.
    backbones: tuple[str, ...] = ()
    # None: as the model was trained, which its model.json says; squash for any other.
    resize: ResizeMode | None = None
    precision: Precision = "float32"
    engine: EngineName = "auto"
    # Fail instead of computing on a CPU.
    require_accelerator: bool = False
    cores_per_worker: int | None = None
    # The accelerator of the extraction's workers, in the syntax of Dataflow's resource hint.
    accelerator: str | None = None
    shard_size: int = 2048
    shard_bytes: int = 1024 * MIB
    max_failure_rate: float = 0.1
    max_removed_rate: float = 0.2
    keep_removed: bool = False
    retry_failed: bool = False
    max_image_bytes: int = MAX_IMAGE_BYTES
    max_pixels: int = MAX_PIXELS
    # Column or feature of the images' bytes in Parquet and TFRecord containers; None to find it.
    image_column: str | None = None
    # Columns of manifests and containers to keep in the table; ("all",) keeps all.
    carry: tuple[str, ...] = ()
    # Column of a manifest that names the images; None to find it.
    uri_column: str | None = None
    rebuild: bool = False
    dry_run: bool = False
    # Seconds without progress after which a run fails; 0 waits for ever.
    stall_timeout: float = 3600.0
    # Extract only the shards of a run that was planned before; neither plan nor publish.
    planned: bool = False
    # Submit the job and return; the job continues by itself.
    no_wait: bool = False
    # File to which one line is appended, or "-" for standard output.
    metrics_json: str | None = None
    # File that is overwritten.
    metrics_prometheus: str | None = None
    # Settings of buckets, in the syntax of ``--store``; never secrets.
    stores: Stores = ()
    # Options of Beam and its runners, in the syntax of Beam's command line.
    beam_args: tuple[str, ...] = ()
    # Name of the backbone's pair of tables; "" for the first. ``targets`` sets it.
    table: str = ""

    @classmethod
    def of(cls, **options: Any) -> Config:
        """Build a configuration from flat options, such as ``Config.of(inputs=…, top_k=0)``.

        Args:
            **options: Fields of ``Config``, and of ``BackboneConfig`` unless ``network`` is given.

        Returns:
            The configuration.

        Raises:
            UserError: An option is invalid.
            TypeError: An option does not exist.
        """
        own = {f.name: options.pop(f.name) for f in fields(cls) if f.name in options}
        network = own.pop("network", None) or BackboneConfig(
            **options, stores=own.get("stores", ())
        )
        return cls(**own, network=network)

    def __post_init__(self) -> None:
        self._take_paths()
        if not self.inputs:
            raise UserError("no --input given; name a folder, a prefix, a glob or list:FILE")
        if not self.output:
            raise UserError("no --output given; name a folder or URL for the tables")
        # Parse them only to raise for invalid ones.
        _ = [parse_store(text) for text in self.stores]
        for name in (
            "shard_size",
            "shard_bytes",
            "max_image_bytes",
            "max_pixels",
            "cores_per_worker",
        ):
            check_min(name, getattr(self, name), 1)
        check_min("stall_timeout", self.stall_timeout, 0, whole=False)
        if self.resize is not None:
            check_word("resize", self.resize, ResizeMode)
        for name, kind in (
            ("precision", Precision),
            ("engine", EngineName),
        ):
            check_word(name, getattr(self, name), kind)
        for name in ("max_failure_rate", "max_removed_rate"):
            check_number(name, getattr(self, name), whole=False)
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: a share from 0 to 1"
                )
        self._check_pairs()
        if self.backbones:
            # Make them only to raise for invalid options.
            _ = self.targets

    def _take_paths(self) -> None:
        """Turn ``Path`` objects into text, and lists into tuples."""
        for name in ("inputs", "beam_args", "stores", "carry", "backbones"):
            values = getattr(self, name)
            if not isinstance(values, tuple | list):
                raise UserError(f"{name} {values!r}: must be a tuple, as in {name}=({values!r},)")
            texts = tuple(path_text(name, value) for value in values)
            object.__setattr__(self, name, texts)
        take_paths(self, "output", "accelerator", "metrics_json", "metrics_prometheus")

    def _check_pairs(self) -> None:
        """Raise ``UserError`` for two options that exclude each other."""
        if self.rebuild and self.keep_removed:
            raise UserError(
                "--rebuild replaces the whole table, and --keep-removed keeps rows of it; give "
                "only one of them"
            )
        if self.require_accelerator and self.engine == "openvino":
            raise UserError(
                "--engine openvino computes on a CPU, which --require-accelerator refuses; give "
                "only one of them"
            )
        if self.planned and self.dry_run:
            raise UserError(
                "--planned extracts what was planned, and --dry-run only plans; give only one of "
                "them"
            )

    @property
    def targets(self) -> tuple[Config, ...]:
        """The options of each backbone by itself, the first one first."""
        return target_configs(self)

    @property
    def plan_options(self) -> dict[str, Any]:
        """The options that a plan depends on, besides the inputs and the recipe.

        A run with other values needs another plan.
        """
        names = ("rebuild", "keep_removed", "retry_failed", "max_removed_rate")
        options = {name: getattr(self, name) for name in names}
        # Only where they are given, so that a run of an earlier version can be resumed.
        given = ("image_column", "uri_column", "carry")
        taken = {name: getattr(self, name) for name in given if getattr(self, name)}
        # As JSON gives it back.
        return options | taken | ({"carry": list(self.carry)} if self.carry else {})
