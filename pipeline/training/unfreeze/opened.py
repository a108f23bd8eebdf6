"""The options of an unfreezing, and what they name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.tables import Table, Tables
from pipeline.training.examples import Examples
from pipeline.training.unfreeze.fit import FitOptions
from pipeline.training.unfreeze.images import Looks
from pipeline.training.unfreeze.network import Base, network_of, open_base, precision_here
from pipeline.training.unfreeze.save import check_path
from pipeline.training.unfreeze.start import head_labels
from pipeline.training.unfreeze.task import Task, read_task
from transforms.backbones import Resolved
from transforms.backbones.spec import file_sha256
from transforms.choices import Precision, check_min
from transforms.containers.index import Indexes
from transforms.errors import UserError
from transforms.recipe import Recipe, recipe_id, resize_in
from transforms.storage import open_storage
from transforms.storage.settings import Stores

# Raised when the same settings give another model.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class UnfreezeOptions:
    """The options of ``train --unfreeze``."""

    output: str
    labels: str  # folder, column:NAME or csv:FILE
    # How many layers learn, or the name of the first one.
    unfreeze: str
    save: str  # path of model.keras
    table: str = ""
    split_column: str | None = None  # as in ``TrainOptions``
    # Path of head.keras; None trains one first.
    head: str | None = None
    # Where the table's network lies, if its recipe only names it.
    backbone: str | None = None
    weights: str | None = None
    epochs: int = 5
    rate: float = 1e-5
    batch_size: int = 32
    seed: int = 0
    # None: half precision on a GPU that computes it faster, otherwise float32.
    precision: Precision | None = None
    stores: Stores = field(default=())

    def __post_init__(self) -> None:
        check_min("epochs", self.epochs, 1)
        check_min("batch_size", self.batch_size, 1)
        check_min("seed", self.seed, 0)
        if not 0 < self.rate < 1:
            raise UserError(f"--rate {self.rate}: must be more than 0 and less than 1")


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What the options name."""

    options: UnfreezeOptions
    path: Path  # of model.keras
    features: Table
    recipe: Recipe
    examples: Examples
    task: Task
    resolved: Resolved
    base: Base
    looks: Looks
    precision: Precision

    @property
    def head(self) -> Path | None:
        """The head that was given."""
        return Path(self.options.head).expanduser() if self.options.head else None

    @property
    def fitting(self) -> FitOptions:
        """How to train."""
        own = self.options
        return FitOptions(own.epochs, own.rate, own.seed, self.task.exclusive)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the model, as JSON holds it."""
        import keras

        return {
            "version": _VERSION,
            "keras": keras.__version__,
            "task": self.task.digest,
            "recipe": recipe_id(self.recipe),
            "learning": self.base.learning,
            "head": file_sha256(self.head) if self.head else None,
            "precision": self.precision,
            "batch_size": self.options.batch_size,
            **asdict(self.fitting),
        }


def open_options(options: UnfreezeOptions) -> Opened:
    """Open the table and its network: mistakes are found here, before an image is read.

    Raises:
        UserError: The options do not fit the table.
        Damaged: The table cannot be read.
    """
    path = check_path(options.save)
    storage = open_storage(options.output, options.stores)
    features = Tables.published(storage, options.table).features
    examples, task = read_task(features, options.labels, options.split_column)
    recipe = features.recipe() or {}
    if options.head:
        head = Path(options.head).expanduser()
        task = task.in_order(head_labels(head, recipe, task.classes))
    resolved = network_of(recipe, options.backbone, options.weights, options.stores)
    resize = resize_in(recipe)
    indexes = Indexes(storage, write=False)
    return Opened(
        options=options,
        path=path,
        features=features,
        recipe=recipe,
        examples=examples,
        task=task,
        resolved=resolved,
        base=open_base(resolved, options.unfreeze),
        looks=Looks(resolved.input_size, resize, options.stores, indexes),
        precision=options.precision or precision_here(),
    )
