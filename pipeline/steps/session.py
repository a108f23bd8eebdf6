"""Open the output, the network and the tables that a command's options name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.config import Config
from pipeline.runners.cluster import check_cluster
from pipeline.runners.computing import check_network
from pipeline.runners.options import RunnerOptions
from pipeline.runners.services import check_scheduler
from pipeline.tables import Table, Tables
from transforms.backbones import Resolved, resolve
from transforms.backbones.head import check_vectors
from transforms.backbones.model_json import resize_of
from transforms.errors import Refused, UserError
from transforms.recipe import Recipe, differences, recipe_id, resize_fields, vector_fields
from transforms.storage import Storage, local_path, open_storage

# docs/decoding.md describes it, and the kernels of resizing.
_DECODE = "srgb-white-exif-1"


@dataclass(frozen=True, slots=True)
class Session:
    """One start of a command: its options, with what they name opened and resolved once.

    With several backbones it is the first one's, and ``others`` holds those of the others.
    """

    config: Config
    output: Storage
    network: Resolved
    recipe: Recipe
    runner: RunnerOptions
    tables: Tables
    others: tuple[Session, ...] = ()
    # Whether the labels of the rows are to be computed anew, by a head.
    relabels: bool = False
    # The number of rows that got new labels.
    relabelled: int = 0

    @property
    def targets(self) -> tuple[Session, ...]:
        """The sessions of all backbones, the first one first."""
        return (self, *self.others)


def open_session(config: Config, runner: RunnerOptions) -> Session:
    """Open what the options name.

    Args:
        config: The options of the command.
        runner: The options of Beam.

    Raises:
        UserError: An option is invalid, or something that it needs is not installed.
        RunFailed: The cluster does not answer.
        Refused: The table was made with another recipe.
    """
    check_cluster(runner, config.accelerator)
    check_scheduler(runner)
    _check_folder(config.output)
    output = open_storage(config.output, config.stores)
    first, *others = (_open(target, runner, output) for target in config.targets)
    return replace(first, others=tuple(others))


def _open(config: Config, runner: RunnerOptions, output: Storage) -> Session:
    """Open what the options of one backbone name."""
    network = resolve(config.network)
    check_network(config.engine, network)
    session = Session(
        config=config,
        output=output,
        network=network,
        recipe=make_recipe(config, network),
        runner=runner,
        tables=Tables.open(output, config.table),
    )
    if network.head and config.network.head:
        check_vectors(config.network.head, network.head, session.recipe)
    return _check_recipe(session)


def _check_folder(output: str) -> None:
    path = local_path(output)
    if path and path.exists() and not path.is_dir():
        raise UserError(f"--output {output} is a file; name a folder: a missing one is created")


def make_recipe(config: Config, network: Resolved) -> Recipe:
    """Return everything that determines a vector, as one flat mapping."""
    return {
        **network.recipe_fields,
        "decode": _DECODE,
        **resize_fields(resize_of(network, config.resize)),
        "precision": config.precision,
    }


def _check_recipe(session: Session) -> Session:
    """Refuse to mix vectors of two recipes in one table.

    Returns:
        The session; it relabels if only a head makes the recipes differ.
    """
    if session.config.rebuild:
        return session
    known = session.tables.features.recipe()
    changes = differences(known, session.recipe) if known else []
    if not changes:
        # The last relabelling may have been killed between its two commits.
        return replace(session, relabels=has_other_labels(session.tables.errors, session.recipe))
    if session.network.head and has_other_labels(session.tables.features, session.recipe):
        return replace(session, relabels=True)
    name = session.config.table
    table = f"the table {session.tables.features.name}" if name else "the table"
    raise Refused(
        f"{table} in {session.config.output} was made with another recipe: "
        f"{'; '.join(changes)}. Use the old options, another --output, or --rebuild to do all "
        "images again and replace the table."
    )


def has_other_labels(table: Table, recipe: Recipe) -> bool:
    """Tell whether a table's recipe differs from another one in labels and scores alone."""
    if table.recipe_id in ("", recipe_id(recipe)):
        return False
    return vector_fields(table.recipe() or {}) == vector_fields(recipe)
