"""Show how many rows were sent."""

from __future__ import annotations

import logging
import sys
import time

from pipeline.reports.text import time_text

_LOG = logging.getLogger(__name__)


class RowProgress:
    """Counts rows. On a terminal it updates one line each second, elsewhere it logs each 30 s."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = self._shown = time.monotonic()
        terminal = sys.stderr is not None and sys.stderr.isatty()
        # --quiet also turns the line off.
        self._live = terminal and _LOG.isEnabledFor(logging.INFO)

    def __call__(self, rows: int) -> None:
        """Count some more rows."""
        self._done += rows
        now = time.monotonic()
        if now - self._shown >= (1 if self._live else 30):
            self._shown = now
            self._show(now - self._start)

    def end(self) -> None:
        """Leave the line."""
        if self._live and self._shown > self._start:
            sys.stderr.write("\n")

    def _show(self, seconds: float) -> None:
        rate = self._done / seconds
        left = time_text((self._total - self._done) / rate) if rate else "?"
        line = f"{self._done:,} of at most {self._total:,} rows, {rate:,.0f} rows/s, {left} left"
        if self._live:
            sys.stderr.write(f"\r\033[K{line}")
            sys.stderr.flush()
        else:
            _LOG.info(line)
