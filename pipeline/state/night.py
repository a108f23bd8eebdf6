"""A night: the runs of all backbones that have one id."""

from __future__ import annotations

from pipeline.state.run import Run, load_run
from transforms.storage import Storage


def night_of(first: Run, output: Storage) -> tuple[Run, ...]:
    """Return the runs of all backbones of a night.

    Args:
        first: The first backbone's run.
        output: The output.

    Returns:
        The first run, and those of the others whose notes can be read.
    """
    found = [load_run(output, first.run_id, table) for table in first.others]
    return (first, *(run for run in found if run))


def supersede(first: Run, output: Storage) -> None:
    """Note that an unfinished night is not resumed; what its runs have published stays.

    Args:
        first: The first backbone's run.
        output: The output.
    """
    for run in reversed(night_of(first, output)):
        if run.state == "planned":
            run.end(output, "superseded")
