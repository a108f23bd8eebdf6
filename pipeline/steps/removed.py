"""Refuse to remove more rows than a normal change of the sources explains."""

from __future__ import annotations

import shlex

from pipeline.config import Config
from pipeline.state.run import Run
from transforms.errors import Refused
from transforms.plan import Counts
from transforms.sources import meaning_of


def check_removed(counts: Counts, config: Config, before: Run | None) -> None:
    """Refuse to remove more rows than a normal change of the sources explains.

    Args:
        counts: The counts of the plan.
        config: The options of the run.
        before: The last good run. If it had inputs that this run lacks, their images would be
            removed only because nobody listed them.

    Raises:
        Refused: Too many images are not listed any more, or an input is missing.
    """
    rate = config.max_removed_rate
    if config.keep_removed or not counts.gone or rate == 1:
        return
    given = set(map(meaning_of, config.inputs))
    lacking = [text for text in (before.covers if before else ()) if meaning_of(text) not in given]
    if counts.gone <= rate * counts.known and not lacking:
        return
    more = (
        f", more than --max-removed-rate {rate:g} allows"
        if counts.gone > rate * counts.known
        else ""
    )
    inputs = (
        f"; the run before had --input {' and '.join(map(shlex.quote, lacking))} too"
        if lacking
        else ""
    )
    place = f"{config.output}/features-{config.table}" if config.table else config.output
    raise Refused(
        f"{counts.gone:,} of the {counts.known:,} images in {place} are not listed any "
        f"more{more}{inputs}. Nothing was published. Give all inputs and check that they are "
        "complete; or --keep-removed to keep the rows of such images, or --max-removed-rate 1 to "
        "remove them."
    )
