"""Find the newest run in the output, and decide whether to resume it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from pipeline.state.night import night_of
from pipeline.state.run import Run, latest_run
from pipeline.steps.session import Session
from pipeline.tables import Tables
from transforms.errors import Damaged, Refused, UserError
from transforms.recipe import differences
from transforms.sources import meaning_of
from transforms.storage import Storage

_LOG = logging.getLogger(__name__)
_GIVEN_UP = ("refused", "superseded")


def resume(session: Session) -> tuple[Run, ...] | None:
    """Return the newest runs if they are unfinished and still fit; otherwise note their end.

    Runs that do not fit any more are superseded, all together.

    Args:
        session: The options, with what they name opened.

    Returns:
        The runs to resume, of which some may be finished; None when new ones must be planned.

    Raises:
        Damaged: Parts of the tables that a run adds to are lost.
    """
    latest = latest_run(session.output)
    if latest is None or latest.state != "planned":
        return None
    runs = night_of(latest, session.output)
    if _other_targets(latest, session) or len(runs) <= len(latest.others) or _misfit(runs, session):
        _give_up(runs, session)
        return None
    for run, target in _unfinished(runs, session):
        # A run that replaces the tables needs none of their parts.
        for table in () if run.rebuild else target.tables:
            if lost := table.lost_parts():
                raise Damaged(f"part {lost[0]} of {table.url} is missing or incomplete")
    _LOG.info("resuming run %s of %s", latest.run_id, latest.started_at)
    return runs


def _unfinished(runs: Sequence[Run], session: Session) -> list[tuple[Run, Session]]:
    pairs = zip(runs, session.targets, strict=True)
    return [(run, target) for run, target in pairs if run.state == "planned"]


def _misfit(runs: Sequence[Run], session: Session) -> bool:
    """Tell whether an unfinished run has other options, other tables or no plan any more."""
    pairs = _unfinished(runs, session)
    # A process that was killed while it noted the end of the night left some runs planned.
    if any(run.state in _GIVEN_UP for run in runs):
        return True
    return any(
        _other_options(run, target) or _moved_on(run, target.tables) for run, target in pairs
    ) or _plan_is_lost([run for run, _ in pairs], session.output)


def _give_up(runs: Sequence[Run], session: Session) -> None:
    """Note the end of runs that are not resumed, the first one last."""
    output = session.output
    for run in reversed(runs):
        if run.state == "planned":
            # A run that was killed after its last commit lacks only this note.
            done = Tables.open(output, run.table).features.has_run(run.run_id)
            run.end(output, "published" if done else "superseded")
    if runs[0].job:
        _LOG.warning(
            "run %s is not resumed; its job %s may still be running, for nothing",
            runs[0].run_id,
            runs[0].job,
        )


def planned_run(session: Session) -> tuple[Run, ...]:
    """Return the newest runs, for an ``extract`` that does not plan.

    Args:
        session: The options, with what they name opened.

    Returns:
        The runs of all backbones, planned with the same options; or the first one is finished.

    Raises:
        UserError: There is no run.
        Refused: The run was refused or superseded, was planned with other options, or does not fit
            the tables any more.
    """
    run = newest_run(session.output)
    if run.state != "planned":
        return (run,)
    runs = whole_night(run, session.output)
    others = _other_targets(run, session) or [
        line for run, target in _unfinished(runs, session) for line in _other_options(run, target)
    ]
    if others:
        raise Refused(
            f"run {run.run_id} was planned with other options: {'; '.join(others)}. Nothing "
            "was done. Give the options that it was planned with, or plan again with these."
        )
    for own, target in _unfinished(runs, session):
        check_fits(own, target.tables)
    return runs


def whole_night(first: Run, output: Storage) -> tuple[Run, ...]:
    """Return the runs of all backbones of a night.

    Args:
        first: The first backbone's run.
        output: The output.

    Raises:
        Refused: The note of another one is lost, or says that it was refused or superseded.
    """
    runs = night_of(first, output)
    if lost := set(first.others) - {run.table for run in runs}:
        raise Refused(
            f"the note of run {first.run_id} for the tables {min(lost)!r} is missing or damaged; "
            "nothing was done. Plan again."
        )
    if given_up := [run for run in runs if run.state in _GIVEN_UP]:
        raise Refused(
            f"run {first.run_id} was {given_up[0].state} for the tables {given_up[0].table!r}; "
            "nothing was done. Plan again."
        )
    return runs


def _other_targets(run: Run, session: Session) -> list[str]:
    """Return the difference between the tables of a night and those of the options, if any."""
    before, now = run.others, tuple(other.config.table for other in session.others)
    return [f"further tables: {_names(before)} → {_names(now)}"] if before != now else []


def _names(tables: Sequence[str]) -> str:
    return ", ".join(tables) or "none"


def newest_run(output: Storage) -> Run:
    """Return the newest run, planned or finished.

    Raises:
        UserError: There is no run.
        Refused: The run was refused or superseded.
    """
    run = latest_run(output)
    if run is None:
        raise UserError(f"nothing in {output.url}: 'image-features plan' or 'extract' comes first")
    if run.state in _GIVEN_UP:
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


def _plan_is_lost(runs: Sequence[Run], output: Storage) -> bool:
    """Tell whether an unfinished shard's plan file is missing; the run is then planned anew."""
    for run in runs:
        folders = (f"runs/{run.run_id}/plan/", f"{run.folder}/receipts/")
        found = [entry for folder in folders for entry in output.list(folder)]
        there = {entry.key.rpartition("/")[2].partition(".")[0] for entry in found if entry.size}
        if lost := [shard for shard in run.shards if shard not in there]:
            _LOG.warning(
                "the plan of %s in %s is missing; the run is planned anew",
                lost[0],
                run.folder,
            )
            return True
    return False


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
