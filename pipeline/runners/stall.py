"""Stall: a job at which nothing moves any more.

A worker that cannot start, or a job for which there is no room, is no error to most runners: they
wait. What has been done lies in the output, one file for each piece of work, and so this looks the
same on every runner.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from transforms.storage import Storage

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 60.0  # seconds between two looks


class Stalled(Exception):
    """Nothing new for too long. The job may still be there."""


@dataclass(frozen=True, slots=True)
class StallWatch:
    """Waits for a job, and gives it up when no new file has come into ``folder`` for ``seconds``; 0: never."""

    output: Storage
    folder: str
    seconds: float

    def wait(self, work: Callable[[], object]) -> None:
        """Call ``work`` and return when it does, or raise what it raises.

        Raises ``Stalled``; ``work`` then goes on.
        """
        if not self.seconds:
            work()
            return
        end: Future[Any] = Future()
        threading.Thread(target=call_into, args=(work, end), name="job", daemon=True).start()
        files, moved = self._files(), time.monotonic()
        while not wait([end], timeout=min(self.seconds / 4, _LONGEST_PAUSE)).done:
            now = time.monotonic()
            if (seen := self._files()) != files:
                files, moved = seen, now
            elif now - moved >= self.seconds:
                raise Stalled(
                    f"nothing new in {self.folder}/ for {self.seconds:,g} s (--stall-timeout)"
                )
        end.result()

    def _files(self) -> int | None:
        """How many there are; None if the storage does not say, which is no news of the job."""
        try:
            return sum(1 for _ in self.output.list(f"{self.folder}/"))
        except Exception as error:
            _LOG.debug("%s cannot be listed: %s", self.folder, error)
            return None


def call_into(work: Callable[[], object], end: Future[Any]) -> None:
    """Call ``work`` and put what it returns or raises into ``end``, unless something is there already."""
    with suppress(InvalidStateError):
        try:
            end.set_result(work())
        except BaseException as error:
            end.set_exception(error)
