"""SIGTERM and Ctrl-C: stop at once, say how to go on, leave nothing half done.

Every write of a run is whole or absent, so there is nothing to unwind: after a few words the
process ends. Raising ``KeyboardInterrupt`` would not do: Beam turns it into an error of its own, or
waits for the shard under way.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_last_words: list[Callable[[str], None]] = []


@contextmanager
def at_stop(last_words: Callable[[str], None]) -> Iterator[None]:
    """Have ``last_words(reason)`` called if a signal stops the process within the block."""
    _last_words.append(last_words)
    try:
        yield
    finally:
        _last_words.remove(last_words)


def stop_on_signals() -> None:
    """From now on SIGINT and SIGTERM end the process with exit code 128 + their number.

    A thread waits for them, since the main thread may be in the network's engine for a long while.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(
        write
        # The interpreter writes the signal's number there, whatever the main thread does
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_wait, args=(read,), name="signals", daemon=True).start()


def _wait(read: int) -> None:
    number = 0
    while number not in (signal.SIGINT, signal.SIGTERM):
        number = os.read(read, 1)[0]
    try:
        reason = f"stopped by {signal.Signals(number).name}"
        for words in list(_last_words):
            words(reason)
        # There, the progress line is not ended
        line = "\n" if sys.stderr.isatty() else ""
        print(
            f"{line}image-features: {reason}; the published tables are whole. Run the same command "
            "again: it resumes the run.",
            file=sys.stderr,
        )
        sys.stdout.flush()
        for worker in list(children(os.getpid())):
            # Beam's do not notice that the run has ended, and wait for ever
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    finally:
        os._exit(128 + number)


def children(process: int, thread: int | None = None) -> Iterator[int]:
    """The ids of the processes that a process, or one thread of it, has started, those below them first.

    None on a system without /proc.
    """
    # Also for a process that has ended by itself
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            if thread is None or task.name == str(thread):
                for child in map(int, (task / "children").read_text().split()):
                    yield from children(child)
                    yield child
