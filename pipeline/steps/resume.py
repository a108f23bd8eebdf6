"""Find the newest run in the output, and decide whether to resume it."""

from __future__ import annotations

import logging
import shlex

from pipeline.state.run import Run, latest_run
from pipeline.steps.session import Session
from pipeline.tables import Tables
from transforms.errors import Damaged, Refused, UserError
from transforms.recipe import differences
from transforms.sources import meaning_of
from transforms.storage import Storage

_LOG = logging.getLogger(__name__)


def resume(session: Session) -> Run | None:
    """Return the newest run if it is unfinished and still fits; otherwise note its end.

    A run that does not fit any more is superseded.

    Args:
        session: The options, with what they name opened.

    Returns:
        The run to resume; None when a new one must be planned.

    Raises:
        Damaged: Parts of the tables that the run adds to are lost.
    """
    latest = latest_run(session.output)
    if latest is None or latest.state != "planned":
        return None
    if (
        _other_options(latest, session)
        or _moved_on(latest, session.tables)
        or _plan_is_lost(latest, session.output)
    ):
        # A run that was killed after its last commit lacks only this note.
        latest.end(
            session.output,
            "published" if session.tables.features.has_run(latest.run_id) else "superseded",
        )
        if latest.job:
            _LOG.warning(
                "run %s is not resumed; its job %s may still be running, for nothing",
                latest.run_id,
                latest.job,
            )
        return None
    # A run that replaces the tables needs none of their parts.
    for table in () if latest.rebuild else session.tables:
        if lost := table.lost_parts():
            raise Damaged(f"part {lost[0]} of {table.url} is missing or incomplete")
    _LOG.info("resuming run %s of %s", latest.run_id, latest.started_at)
    return latest


def planned_run(session: Session) -> Run:
    """Return the newest run, for an ``extract`` that does not plan.

    Args:
        session: The options, with what they name opened.

    Returns:
        A run that was planned with the same options, or that is finished.

    Raises:
        UserError: There is no run.
        Refused: The run was refused or superseded, was planned with other options, or does not fit
            the tables any more.
    """
    run = newest_run(session.output)
    if run.state == "planned":
        if others := _other_options(run, session):
            raise Refused(
                f"run {run.run_id} was planned with other options: {'; '.join(others)}. Nothing "
                "was done. Give the options that it was planned with, or plan again with these."
            )
        check_fits(run, session.tables)
    return run


def newest_run(output: Storage) -> Run:
    """Return the newest run, planned or finished.

    Raises:
        UserError: There is no run.
        Refused: The run was refused or superseded.
    """
    run = latest_run(output)
    if run is None:
        raise UserError(f"nothing in {output.url}: 'image-features plan' or 'extract' comes first")
    if run.state in ("refused", "superseded"):
        raise Refused(f"run {run.run_id} was {run.state}; nothing was done. Plan again.")
    return run


def check_fits(run: Run, tables: Tables) -> None:
    """Refuse a plan that was made from other versions of the tables.

    Raises:
        Refused: The tables have changed since.
    """
    if _moved_on(run, tables):
        raise Refused(
            f"the tables have changed since run {run.run_id} was planned: by another run, a "
            "rollback or a merge. Nothing was done. Plan again."
        )


def _moved_on(run: Run, tables: Tables) -> bool:
    return any(
        run.versions.get(table.name) != table.version and not table.has_run(run.run_id)
        for table in tables
    )


def _plan_is_lost(run: Run, output: Storage) -> bool:
    """Tell whether an unfinished shard's plan file is missing; the run is then planned anew."""
    found = [*output.list(f"{run.folder}/plan/"), *output.list(f"{run.folder}/receipts/")]
    there = {entry.key.rpartition("/")[2].partition(".")[0] for entry in found if entry.size}
    lost = [shard for shard in run.shards if shard not in there]
    if lost:
        _LOG.warning(
            "the plan of %s in %s is missing; the run is planned anew",
            lost[0],
            run.folder,
        )
    return bool(lost)


def _other_options(run: Run, session: Session) -> list[str]:
    """Return the differences in options that a plan depends on: ``--rebuild: False → True``."""
    inputs = [shlex.join(run.inputs), shlex.join(session.config.inputs)]
    meanings = [[*map(meaning_of, texts)] for texts in (run.inputs, session.config.inputs)]
    policies = run.policy, session.config.plan_options
    names = [
        f"--{line.split(':')[0].replace('_', '-')}:{line.split(':', 1)[1]}"
        for line in differences(*policies)
    ]
    return [
        *([f"--input: {' → '.join(inputs)}"] if meanings[0] != meanings[1] else []),
        *differences(run.recipe, session.recipe),
        *names,
    ]
