"""Put the exported networks of a run into the output, where its workers load them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.maintenance.announce import announce_commit
from pipeline.runners.computing import may_use_xla
from pipeline.steps.session import Session
from transforms.backbones.exported import exported, network_ids
from transforms.backbones.stablehlo import CannotLower
from transforms.engines.models import save_model, saved_keys

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SavedNetwork:
    """An exported network in the output."""

    id: str  # of its graph
    lowered_id: str | None  # of what is lowered from it for XLA
    keys: tuple[str, ...]  # the files of both


def save_networks(session: Session, wanted: Sequence[int]) -> dict[int, SavedNetwork]:
    """Put the exported networks of some backbones into the output, unless they are there.

    Args:
        session: The options, with what they name opened.
        wanted: The numbers of the backbones.

    Raises:
        UserError: Weights do not fit, or the engine that was asked for cannot run a network.
    """
    networks = {number: save_network(session.targets[number]) for number in wanted}
    if networks:
        saved = [key for network in networks.values() for key in network.keys]
        with announce_commit(session.output, saved):
            # The networks are there, and any later vacuum sees the notes of these runs.
            pass
    return networks


def save_network(session: Session) -> SavedNetwork:
    """Use what an earlier step left in the output: only exporting needs TensorFlow."""
    own, second = network_ids(session.recipe)
    lowered = second if may_use_xla(session.config, session.network, session.runner) else None
    there = [saved_keys(session.output, name) for name in (own, lowered) if name]
    if not all(there):
        folders = _exported(session, bool(lowered))
        lowered = second if second in folders else None
        there = [save_model(session.output, name, folder) for name, folder in folders.items()]
    return SavedNetwork(own, lowered, tuple(key for keys in there for key in keys or ()))


def _exported(session: Session, lowered: bool) -> dict[str, Path]:
    """Export for the engines that workers may choose; ``auto`` can go on without XLA."""
    network, cores = session.network, worker_cores(session)
    try:
        return exported(network, lowered, cores)
    except CannotLower as error:
        if session.config.engine == "xla":
            raise
        _LOG.warning("%s: tensorflow computes it", str(error).partition(": ")[2].partition(";")[0])
        return exported(network, False, cores)


def worker_cores(session: Session) -> int | None:
    """Return the cores of each worker process; None for all that it may use."""
    return session.config.cores_per_worker or session.runner.cores_per_worker
