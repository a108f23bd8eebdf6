"""Show live progress, counted from the receipts, which every runner writes alike."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

from pipeline.reports.text import time_text
from pipeline.state.run import Run, read_receipts
from transforms.storage import Storage

_LOG = logging.getLogger(__name__)
# Receipts that are read between two checks for the end of the block.
_PIECE = 1_000


@dataclass(frozen=True, slots=True)
class Done:
    """How far a run is: numbers of images."""

    done: int  # tried, with or without a vector
    total: int
    failed: int


OnProgress = Callable[[Done], None]


class Progress:
    """Shows images done, rate, failures and time left while its block runs.

    It calls ``on_progress`` each second, if there is one. Otherwise, on a terminal it updates one
    line each second, and elsewhere it logs a line every 30 seconds. An image counts once for each
    backbone.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        output: Storage,
        on_progress: OnProgress | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self._runs = runs
        self._total = sum(run.references for run in runs)
        self._output = output
        self._call = on_progress
        # A process may have no standard error, as under pythonw or a scheduler.
        self._stream = stream or sys.stderr
        terminal = self._stream is not None and self._stream.isatty()
        # --quiet also turns the line off.
        self._live = on_progress is None and terminal and _LOG.isEnabledFor(logging.INFO)
        self._seen: set[str] = set()
        self._done = self._failed = self._before = 0
        self._start = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._count()
        self._before = self._done
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._live:
            self._stream.write("\n")

    def line(self) -> str:
        """Return the line, like ``1,024 / 2,048 images, 131 images/s, 3 failed, 8 s left``."""
        elapsed = time.monotonic() - self._start
        rate = (self._done - self._before) / elapsed if elapsed else 0.0
        return progress_text(self._done, self._total, self._failed, rate)

    def _watch(self) -> None:
        pause = 1.0 if self._live or self._call else 30.0
        while not self._stop.wait(pause):
            self._show()
        self._show()

    def _show(self) -> None:
        try:
            self._count()
        except Exception as error:
            # The run goes on without its progress line.
            _LOG.debug("progress cannot be read: %s", error)
            return
        if self._call:
            self._call_back(self._call)
        elif self._live:
            self._stream.write(f"\r\033[K{self.line()}")
            self._stream.flush()
        else:
            _LOG.info(self.line())

    def _call_back(self, call: OnProgress) -> None:
        """Call the caller's function; when it fails, the run goes on without it."""
        try:
            call(Done(self._done, self._total, self._failed))
        except Exception:
            _LOG.warning("on_progress failed and is not called again", exc_info=True)
            self._call = None

    def _count(self) -> None:
        """Read the new receipts.

        After the end of the block it reads at most one piece, since the end waits for it.
        """
        keys = [key for run in self._runs for key in run.receipt_keys(self._output)]
        new = [key for key in keys if key not in self._seen]
        for start in range(0, len(new), _PIECE):
            keys = new[start : start + _PIECE]
            for receipt in read_receipts(self._output, keys):
                self._done += receipt.references
                self._failed += len(receipt.failures)
            self._seen.update(keys)
            if self._stop.is_set():
                return


def progress_text(done: int, total: int, failed: int, rate: float) -> str:
    """Return the progress as text; ``rate`` is in images per second, 0 when unknown."""
    speed = f", {rate:,.0f} images/s" if rate else ""
    left = f", {time_text((total - done) / rate)} left" if rate and done < total else ""
    return f"{done:,} / {total:,} images{speed}, {failed:,} failed{left}"
