"""Make a Beam pipeline for the chosen runner, and explain how a runner failed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.runners.cluster import check_credentials
from pipeline.runners.local import local_runner
from pipeline.runners.notebook import plain_pipeline
from pipeline.runners.options import RunnerOptions
from pipeline.runners.stall import Stalled
from transforms.engines.choose import NO_ACCELERATOR
from transforms.errors import Refused, RunFailed, UserError

if TYPE_CHECKING:
    import apache_beam as beam


def new_pipeline(runner: RunnerOptions, more: Sequence[str] = ()) -> beam.Pipeline:
    """Return a pipeline for the runner that the options name.

    Beam's own ``DirectRunner`` chooses one of three runners by the graph's content, tries to
    download one of them, and warns when it fails. So this pins ``FnApiRunner``, the one in this
    process. It also passes the options on to the worker processes; ``FnApiRunner`` does not.

    Args:
        runner: The options of Beam.
        more: Further options of this pipeline.

    Raises:
        UserError: A run on Dataflow has no credentials.
    """
    options = runner.for_beam(more)
    if not runner.is_local:
        check_credentials(runner)
        return plain_pipeline(options=options)
    return plain_pipeline(runner=local_runner(options), options=options)


@contextmanager
def run_failed(what: str) -> Iterator[None]:
    """Turn any error of a runner into one line that says what failed and how to go on.

    Args:
        what: The work of the block, as the message names it.

    Raises:
        RunFailed: The block failed, or its job stalled.
        UserError: The block raised it.
        Refused: The block raised it.
    """
    try:
        yield
    except (UserError, Refused) as error:
        # Beam adds the step of the graph.
        error.args = tuple(_without_step(str(argument)) for argument in error.args)
        raise
    except Stalled as stall:
        raise RunFailed(
            f"{what} stalled: {stall}. Check that this package is installed for the python on the "
            "workers' PATH, that the cluster has free slots and room for the workers, and what "
            "their logs say; if a shard takes longer, give a smaller --shard-size. Nothing was "
            "published. Then run the same command again: it resumes the run."
        ) from stall
    except Exception as error:
        # A worker process sends its error as text.
        _, user_error, message = _cause(error).rpartition("transforms.errors.UserError: ")
        if user_error:
            raise UserError(message) from error
        raise RunFailed(
            f"{what} failed: {_cause(error)}. Nothing was published. {_how_to_go_on(error)}"
        ) from error


def _how_to_go_on(error: Exception) -> str:
    """Say what to do: the same command alone does not help against wrong vectors or a missing file.

    A worker's error may arrive as text only.
    """
    resumes = "un the same command again: it resumes the run."
    text = str(error)
    if any(words in text for words in ("self-check failed", "Try --engine", NO_ACCELERATOR)):
        return "The same command would fail again."
    if any(name in text for name in ("ModuleNotFoundError", "ImportError")):
        return f"Install what is missing, on the workers too. Then r{resumes}"
    return f"R{resumes}"


def _without_step(text: str) -> str:
    return re.sub(r"\s*\[while running '[^']*'\]\s*", " ", text).strip()


def _cause(error: Exception) -> str:
    """Return an error's cause: the last line of the worker traceback it quotes, or its message."""
    text = _without_step(str(error))
    if "Traceback (most recent call last)" in text:
        text = [line for line in text.splitlines() if line and not line.startswith(" ")][-1]
    if text.startswith("Service failed to start up"):
        # The runner started a program that ended at once.
        text += (
            " (IMAGE_FEATURES_DEBUG=1 shows its output; 'make engines' builds those of "
            "launch/prism.args)"
        )
    return " ".join(text.split())[:500].rstrip(".") or type(error).__name__
