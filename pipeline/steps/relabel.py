"""Compute the labels of published rows anew, by a head, from the vectors that are stored."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.maintenance.announce import announce_commit
from pipeline.state.run import new_run_id
from pipeline.steps.networks import save_network
from pipeline.steps.session import Session
from pipeline.tables import Table, Tables
from pipeline.tables.commit import Commit
from transforms.backbones.export import head_of
from transforms.backbones.network import run
from transforms.engines.base import Outputs
from transforms.errors import Refused
from transforms.parts.relabel import LabelsOf, Vectors, relabel_part
from transforms.parts.rows import label_columns
from transforms.recipe import recipe_id

_LOG = logging.getLogger(__name__)
# Parts written at once, as in ``Table.rewrite_without``.
_REWRITES = 4


def relabel(session: Session) -> Session:
    """Relabel the tables of each backbone where only a head makes the recipes differ.

    No image is read, and vectors stay the same to the bit. A dry run only says what would be done.

    Args:
        session: The options, with what they name opened.

    Returns:
        The session, with its tables as they are afterwards.

    Raises:
        Refused: Another writer was faster.
        Damaged: A part cannot be read.
        RunFailed: The storage did not take the commit.
    """
    first, *others = (_relabel(own) if own.relabels else own for own in session.targets)
    return replace(first, others=tuple(others))


def check_labels(session: Session) -> None:
    """Refuse a step that would not relabel the tables.

    Raises:
        Refused: The tables are to be relabelled first.
    """
    asked = any(own.relabels and own.network.head for own in session.targets)
    if asked and not session.config.dry_run:
        raise Refused(
            f"the labels in {session.config.output} are to be computed anew by --head; nothing was "
            "planned. Run 'image-features extract' with these options first: it does that, and "
            "extracts what is new."
        )


def _relabel(session: Session) -> Session:
    """Write all parts that have another recipe anew, and commit them: one commit a table."""
    output, tables = session.output, session.tables
    old = {table.name: _other_parts(table, session) for table in tables}
    rows = sum(part["num_records"] for part in old[tables.features.name])
    options = session.config.network
    by = options.head or options.classes
    what = f"the labels of {rows:,} rows from the stored vectors, by {by}"
    if session.config.dry_run:
        if rows:
            _LOG.info("would compute %s; no image would be read for it", what)
        return replace(session, relabelled=rows)
    run_id = new_run_id(output)
    # The errors come first, as in a run: of two writers at once only one gets past that commit.
    commits = [
        (table, _commit(table, [part["path"] for part in old[table.name]], session, run_id))
        for table in (tables.errors, tables.features)
    ]
    saved = save_network(session).keys if rows else ()
    added = [table.key(part.path) for table, commit in commits for part in commit.add]
    with announce_commit(output, [*saved, *added]):
        for table, commit in commits:
            table.commit(commit)
    if rows:
        _LOG.info(
            "computed %s: version %s of %s", what, tables.features.version, tables.features.name
        )
    now = Tables.open(output, tables.name)
    return replace(session, tables=now, relabels=False, relabelled=rows)


def _other_parts(table: Table, session: Session) -> list[dict[str, Any]]:
    """Return the parts that were written under another recipe."""
    own = recipe_id(session.recipe)
    return [part for part in table.parts if part["min.recipe"] != own]


def _commit(table: Table, old: list[str], session: Session, run_id: str) -> Commit:
    """Write parts anew under the session's recipe; readers do not see them yet."""
    labels_of = _labels_of(session) if old and table.kind == "features" else _no_labels
    with ThreadPoolExecutor(_REWRITES) as pool:
        new = list(
            pool.map(
                lambda path: relabel_part(table.storage, path, labels_of, run_id, session.recipe),
                old,
            )
        )
    return Commit(run_id, new, old, operation="relabel")


def _labels_of(session: Session) -> LabelsOf:
    network = session.network
    assert network.labels
    return partial(_labelled, head_of(network), network.labels, network.top_k)


def _labelled(
    head: Any, labels: tuple[str, ...], top_k: int, vectors: Vectors
) -> Mapping[str, pa.Array]:
    """Return the columns of labels that a head gives for vectors [N, D]."""
    scores = run(head, vectors)
    # Of equal scores the first class comes first, as in TensorFlow's top_k.
    indices = np.argsort(-scores, axis=1, kind="stable")[:, :top_k].astype(np.int32)
    return label_columns(
        Outputs(vectors, np.take_along_axis(scores, indices, axis=1), indices), labels
    )


def _no_labels(vectors: Vectors) -> Mapping[str, pa.Array]:
    return {}
