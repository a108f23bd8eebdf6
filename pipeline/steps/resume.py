"""What a start finds in the output: the newest run, and whether it is one to go on with."""

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
    """The newest run, if it was broken off after its plan and still fits; otherwise it is given up.

    Raises ``Damaged`` when parts of the tables that it adds to are lost.
    """
    latest = latest_run(session.output)
    if latest is None or latest.state != "planned":
        return None
    if (
        _other_options(latest, session)
        or _moved_on(latest, session.tables)
        or _plan_is_lost(latest, session.output)
    ):
        # Killed after its last commit, a run lacks only this note.
        latest.end(
            session.output,
            "published" if session.tables.features.has_run(latest.run_id) else "superseded",
        )
        if latest.job:
            _LOG.warning(
                "run %s is given up; is its job %s still at work, for nothing?",
                latest.run_id,
                latest.job,
            )
        return None
    # A plan reads them, and sees for itself
    for table in () if latest.rebuild else session.tables:
        if lost := table.lost_parts():
            raise Damaged(f"part {lost[0]} of {table.url} is not there any more, or cut off")
    _LOG.info("resuming run %s of %s", latest.run_id, latest.started_at)
    return latest


def planned_run(session: Session) -> Run:
    """The newest run, for an ``extract`` that does not plan: planned with these options, or ended well.

    Raises what ``newest_run`` raises, and ``Refused`` when the run was planned otherwise.
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
    """The newest run, planned or ended well.

    Raises ``UserError`` when there is none, and ``Refused`` when it was refused or given up.
    """
    run = latest_run(output)
    if run is None:
        raise UserError(f"nothing in {output.url}: 'image-features plan' or 'extract' comes first")
    if run.state in ("refused", "superseded"):
        what = "was refused" if run.state == "refused" else "was given up"
        raise Refused(f"run {run.run_id} {what}; nothing was done. Plan again.")
    return run


def check_fits(run: Run, tables: Tables) -> None:
    """Refuse a plan that was made from other versions of the tables."""
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
    """Whether the images of a shard that is not done are not known any more; the run is planned anew then."""
    found = [*output.list(f"{run.folder}/plan/"), *output.list(f"{run.folder}/receipts/")]
    there = {entry.key.rpartition("/")[2].partition(".")[0] for entry in found if entry.size}
    lost = [shard for shard in run.shards if shard not in there]
    if lost:
        _LOG.warning(
            "the plan of %s in %s is not there any more; the run is planned anew",
            lost[0],
            run.folder,
        )
    return bool(lost)


def _other_options(run: Run, session: Session) -> list[str]:
    """In which options that a plan depends on the run and this start differ: ``--rebuild: False → True``."""
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
