"""Plan a run: list the sources, compare them with the tables, and write the shards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import Config
from pipeline.runners.jobs import Submission
from pipeline.runners.stall import StallWatch
from pipeline.state.run import Run, last_good_run, new_run_id
from pipeline.steps.changes import RANGE_ROWS, Plan, find_changes, summarise
from pipeline.steps.listing import (
    Listing,
    list_here,
    list_sources,
    name_containers,
    nothing_listed,
)
from pipeline.steps.removed import check_removed
from pipeline.steps.session import Session
from pipeline.steps.shards import Shards
from pipeline.tables import Table
from transforms.carried import Carry
from transforms.carried_types import CarriedType, extend
from transforms.containers.base import Wanted
from transforms.errors import Refused
from transforms.parts.reuse import INDEX_FILE, encode_index
from transforms.plan import PlanPolicy
from transforms.shards import ShardPolicy
from transforms.sources import parse_input
from transforms.storage import Storage

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Compared:
    """A listing compared with the tables of each backbone: runs that have no note yet."""

    runs: tuple[Run, ...]
    plans: tuple[Plan, ...]
    shards: Shards


def compare(session: Session) -> Compared:
    """List the sources, compare them with the tables, and write the shards.

    A dry run writes nothing.

    Args:
        session: The options, with what they name opened.

    Raises:
        UserError: An input does not exist, or none holds an image.
        RunFailed: The listing failed or stalled.
        Damaged: A table cannot be read.
    """
    config = session.config
    runs = _new_runs(session)
    sources = [
        parse_input(
            text,
            config.stores,
            Wanted(config.image_column, Carry(config.carry)),
            config.uri_column,
        )
        for text in config.inputs
    ]
    watch = StallWatch(session.output, f"{runs[0].folder}/listing", config.stall_timeout)
    submission = Submission(session.runner, watch=watch)
    listed = (
        list_here(sources, session.output)
        if config.dry_run
        else list_sources(sources, session.output, submission, config.stores)
    )
    with listed as listing:
        if not listing.rows:
            rows = sum(rows for _, rows in session.tables.features.row_counts())
            raise nothing_listed(sources, listing, rows)
        plans, shards = _compare_listing(listing, runs, session)
        planned = tuple(
            _planned(run, plan, listing, target, several=bool(session.others))
            for run, plan, target in zip(runs, plans, session.targets, strict=True)
        )
        if listing.containers:
            _LOG.warning("%s", name_containers(listing.containers))
        if absent := set(config.carry) - {"all", *(listing.carried or {})}:
            _LOG.warning("--carry: no image has a value of %s", ", ".join(sorted(absent)))
    return Compared(planned, plans, shards)


def _new_runs(session: Session) -> tuple[Run, ...]:
    """Return a run for each backbone, all with one new id."""
    run_id, now = new_run_id(session.output), datetime.now(UTC).isoformat()
    return tuple(
        Run(
            run_id=run_id,
            started_at=now,
            inputs=target.config.inputs,
            recipe=target.recipe,
            policy=target.config.plan_options,
            covers=_covers(target.config, last_good_run(session.output, target.config.table)),
            versions=target.tables.versions,
            max_failure_rate=target.config.max_failure_rate,
            table=target.config.table,
            others=tuple(other.config.table for other in target.others),
        )
        for target in session.targets
    )


def _planned(run: Run, plan: Plan, listing: Listing, session: Session, several: bool) -> Run:
    """Note the counts of a plan in its run."""
    name = session.tables.features.name if several else ""
    counts = summarise(run.run_id, plan, listing, session.config, name)
    counts = replace(counts, relabelled=session.relabelled)
    carried = _carried(listing, session)
    return replace(run, plan=counts, carried=carried, stale=dict(plan.stale), kept=dict(plan.kept))


def settle(compared: Compared, session: Session) -> tuple[Run, ...]:
    """Write the notes of the runs, so that a later start can resume them.

    A dry run writes nothing.

    Args:
        compared: The runs and their plans.
        session: The options, with what they name opened.

    Returns:
        The runs. All are ``unchanged`` when there is nothing to do. Otherwise the first one is
        planned, whatever it has to do.

    Raises:
        Refused: Too many images would be removed.
    """
    output, dry_run = session.output, session.config.dry_run
    try:
        for plan, target in zip(compared.plans, session.targets, strict=True):
            before = last_good_run(output, target.config.table)
            check_removed(plan.counts, target.config, before)
    except Refused:
        for run in () if dry_run else reversed(compared.runs):
            run.end(output, "refused", run.counts)
        raise
    if dry_run:
        return compared.runs
    unchanged = all(plan.nothing_to_do for plan in compared.plans)
    # The first run's note comes last: it says that all are planned.
    settled = []
    for number in reversed(range(len(compared.runs))):
        run, plan = compared.runs[number], compared.plans[number]
        if plan.nothing_to_do and (number or unchanged):
            settled.append(run.end(output, "unchanged", run.counts))
            continue
        reuse = (
            plan.todo > 0
            and not run.rebuild
            and write_index(plan.sizes, session.targets[number].tables.features, output, run.folder)
        )
        shards = tuple(compared.shards.of_target[number])
        settled.append(replace(run, shards=shards, reuse=reuse).save(output))
    return tuple(reversed(settled))


def _compare_listing(
    listing: Listing, runs: Sequence[Run], session: Session
) -> tuple[tuple[Plan, ...], Shards]:
    """Compare one range of URIs at a time and write its shards; a dry run only counts."""
    config = session.config
    output = None if config.dry_run else session.output
    limits = ShardPolicy(config.shard_size, config.shard_bytes, session.runner.workers)
    shards = Shards(output, runs[0].folder, limits, len(runs))
    plans = tuple(Plan(output, run.folder, replace_all=config.rebuild) for run in runs)
    policy = PlanPolicy(
        config.rebuild, config.retry_failed, config.keep_removed, bool(config.carry)
    )
    pairs = [target.tables for target in session.targets]
    for changes in find_changes(listing, pairs, policy):
        for plan, own in zip(plans, changes, strict=True):
            plan.add(own)
        shards.add([own.todo for own in changes])
    shards.finish()
    for plan in plans:
        plan.finish()
    return plans, shards


def _carried(listing: Listing, session: Session) -> CarriedType:
    """Return the type of the column ``source`` after the run; None if the run carries nothing.

    Raises:
        UserError: A carried column has another type than in the table.
    """
    config = session.config
    if not config.carry:
        return None
    before = None if config.rebuild else session.tables.features.carried
    return extend(before, listing.carried)


def _covers(config: Config, before: Run | None) -> tuple[str, ...]:
    """Return the inputs that the tables' rows come from after the run."""
    earlier = before.covers if before and config.keep_removed else ()
    return tuple(dict.fromkeys([*config.inputs, *earlier]))


def write_index(sizes: pa.Array, features: Table, output: Storage, run_folder: str) -> bool:
    """Write the index of the vectors that the images to do may share.

    Equal contents have equal sizes, so only rows of an image's size count: few for a night's
    images, all when a list gave no sizes. Beyond a few million rows the index leaves some out; the
    images that could share their vectors are computed again.

    Args:
        sizes: Distinct sizes in bytes of the images to do, int64; below 0 when unknown.
        features: The features table.
        output: The output.
        run_folder: Folder of the run in the output.

    Returns:
        Whether there is an index.
    """
    unknown = pc.any(pc.less(sizes, 0)).as_py()
    where = None if unknown else pc.field("size").isin(sizes)
    rows = features.read(["content_sha256", "__filename"], where, limit=RANGE_ROWS)
    if not rows.num_rows:
        return False
    paths = rows["__filename"].combine_chunks().dictionary_encode()
    names = pa.array([path.rsplit("/", 1)[-1] for path in paths.dictionary.to_pylist()])
    part = pa.DictionaryArray.from_arrays(paths.indices, names).cast(pa.string())
    index = encode_index(pa.table({"content_sha256": rows["content_sha256"], "part": part}))
    output.write(f"{run_folder}/{INDEX_FILE}", index)
    return True
