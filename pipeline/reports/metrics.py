"""Write the metrics of each run, however it ended: ``--metrics-json``, ``--metrics-prometheus``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pipeline.config import Config
from pipeline.reports.prometheus import write_textfile
from pipeline.signals import at_stop
from pipeline.state.summary import Summary
from transforms.errors import Refused, UserError
from transforms.names import printable
from transforms.stopwatch import Stopwatch
from transforms.storage.urls import without_password

# Fields of ``Summary`` that the metrics have under other names.
_NOT_COUNTS = ("run_id", "state", "seconds", "table")


T = TypeVar("T")


class Metrics:
    """Collects the metrics of a run, and writes them at the end of the block.

    Keys: ``time`` (of the end), ``run_id``, ``state`` (that of ``Summary``; or refused, failed,
    invalid or stopped), ``error``, ``output``, the counts of ``Summary``, ``seconds`` (plan,
    extract, publish, total), ``worker_seconds`` (read, decode, embed, reuse, write) and
    ``program``, its version. The counts are those of the last stage that was reached. A run with
    several backbones writes a line for each, with the name of its features table as ``table``;
    ``seconds`` are those of all.

    Args:
        output: Folder or URL of the tables.
        target: A file to append a line of JSON to, or "-" for standard output; None for neither.
        textfile: A file of Prometheus metrics to replace; None for none.
    """

    def __init__(self, output: str, target: str | None, textfile: str | None = None) -> None:
        self._output = output
        self._target = target
        self._textfile = textfile
        self._start = time.monotonic()
        self._unwritten = True
        self._stop = at_stop(lambda reason: self._write("stopped", reason))
        self._watch = Stopwatch()
        self._summaries: Sequence[Summary] = (Summary(run_id=""),)

    @classmethod
    def of(cls, config: Config) -> Metrics:
        """Make the metrics of a run, for the files that its options name."""
        metrics = cls(config.output, config.metrics_json, config.metrics_prometheus)
        metrics.note(Summary(run_id="", table=target.table) for target in config.targets)
        return metrics

    def note(self, summaries: Iterable[Summary]) -> None:
        """Note the counts of a stage for each backbone, in case the run ends early."""
        self._summaries = tuple(summaries)

    def step(self, name: str, work: Callable[[], T]) -> T:
        """Do one step of the run, note its time, and return its result.

        Args:
            name: The key of the step's seconds.
            work: The step.
        """
        with self._watch.time(name):
            return work()

    def end(self, *summaries: Summary) -> tuple[Summary, ...]:
        """Note the summaries of a run that ended without an error; return the summaries."""
        self.note(summaries)
        return summaries

    def __enter__(self) -> Metrics:
        for option, target in (("json", self._target), ("prometheus", self._textfile)):
            if target not in (None, "-"):
                # Check this now, not after the night's work.
                try:
                    with Path(str(target)).open("a"):
                        pass
                except OSError as error:
                    raise UserError(
                        f"--metrics-{option} {target}: cannot be written: {error.strerror}"
                    ) from error
        # It is replaced, which would delete a device.
        if self._textfile and not Path(self._textfile).is_file():
            raise UserError(f"--metrics-prometheus {self._textfile}: is no file; name one")
        self._stop.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.__exit__(kind, error, trace)
        self._write(self._state(error), "" if error is None else str(error) or type(error).__name__)

    def _state(self, error: BaseException | None) -> str:
        """Return the state after an error; "" without one."""
        if error is None:
            return ""
        kinds = {UserError: "invalid", Refused: "refused", KeyboardInterrupt: "stopped"}
        return next((state for kind, state in kinds.items() if isinstance(error, kind)), "failed")

    def _write(self, state: str, error: str) -> None:
        if not self._unwritten:
            return
        self._unwritten = False
        lines = [self._line(summary, state, error) for summary in self._summaries]
        if self._target:
            with _named(self._target):
                # Standard output may have an encoding without these letters.
                ascii_only = self._target == "-"
                texts = (json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines)
                _add(self._target, "".join(texts))
        if self._textfile:
            with _named(self._textfile):
                write_textfile(Path(self._textfile), lines)

    def _line(self, summary: Summary, state: str, error: str) -> dict[str, Any]:
        seconds = {**self._watch.seconds, "total": time.monotonic() - self._start}
        program = None
        # The version is unknown when the program runs from a folder that is not installed.
        with suppress(PackageNotFoundError):
            program = version("beam-image-features")
        # What is published stays, even if another backbone's commit failed.
        stands = not state or summary.published
        table = f"features-{summary.table}".rstrip("-")
        return {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "run_id": summary.run_id or None,
            "state": summary.state if stands else state,
            "error": None if stands else without_password(error) or None,
            "output": without_password(self._output),
            **({"table": table} if len(self._summaries) > 1 else {}),
            **{name: value for name, value in asdict(summary).items() if name not in _NOT_COUNTS},
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
            "worker_seconds": {stage: round(value, 3) for stage, value in summary.seconds.items()},
            "program": program,
        }


@contextmanager
def _named(target: str) -> Iterator[None]:
    """Only print that the metrics cannot be written: this does not change how the run ended."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        print(
            f"image-features: cannot write the metrics to {printable(target)}: {reason}",
            file=sys.stderr,
        )


def _add(target: str, line: str) -> None:
    """Append a line, whole or not at all, so that the next night's line is a line of its own."""
    if target == "-":
        sys.stdout.write(line)
        sys.stdout.flush()
        return
    with Path(target).open("ab", buffering=0) as file:
        start = file.tell() if file.seekable() else None
        # A file name that is not valid text ends up as JSON's escape.
        data = line.encode("utf-8", "backslashreplace")
        done = 0
        try:
            while done < len(data):
                done += file.write(data[done:])
        except OSError:
            # Cut the file only if nobody else has appended to it meanwhile.
            if start is not None and file.seek(0, os.SEEK_END) == start + done:
                file.truncate(start)
            raise
