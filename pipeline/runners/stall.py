"""Detect a stalled job: one that writes no new file any more.

Most runners do not report a worker that cannot start, or a job for which there is no room: they
wait. Each finished piece of work is a file in the output, so the check is the same for every
runner.
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
_MAX_PAUSE = 60.0  # seconds between two checks


class Stalled(Exception):
    """No new file for too long. The job may still be running."""


@dataclass(frozen=True, slots=True)
class StallWatch:
    """Waits for a job until no new file has come into ``folder`` for ``seconds``; 0: no limit."""

    output: Storage
    folder: str
    seconds: float

    def wait(self, work: Callable[[], object]) -> None:
        """Call ``work`` and return when it does, or raise what it raises.

        Raises:
            Stalled: No new file has come for too long. ``work`` goes on in its thread.
        """
        if not self.seconds:
            work()
            return
        end: Future[Any] = Future()
        threading.Thread(target=call_into, args=(work, end), name="job", daemon=True).start()
        files, moved = self._files(), time.monotonic()
        while not wait([end], timeout=min(self.seconds / 4, _MAX_PAUSE)).done:
            now = time.monotonic()
            if (seen := self._files()) != files:
                files, moved = seen, now
            elif now - moved >= self.seconds:
                raise Stalled(
                    f"nothing new in {self.folder}/ for {self.seconds:,g} s (--stall-timeout)"
                )
        end.result()

    def _files(self) -> int | None:
        """Count the files; None when the storage fails, which says nothing about the job."""
        try:
            return sum(1 for _ in self.output.list(f"{self.folder}/"))
        except Exception as error:
            _LOG.debug("%s cannot be listed: %s", self.folder, error)
            return None


def call_into(work: Callable[[], object], end: Future[Any]) -> None:
    """Call ``work``, and set ``end`` to what it returns or raises unless it is set already."""
    with suppress(InvalidStateError):
        try:
            end.set_result(work())
        except BaseException as error:
            end.set_exception(error)
