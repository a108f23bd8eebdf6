"""Stop at once on SIGTERM or Ctrl-C, say how to resume, and leave nothing half done.

Every write of a run is complete or absent, so nothing needs to be undone: the process prints a
message and ends. Raising ``KeyboardInterrupt`` would not work: Beam turns it into an error of its
own, or waits for the shard in progress.
"""

from __future__ import annotations

import logging
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
    """Call ``last_words(reason)`` if a signal stops the process within the block.

    Args:
        last_words: Function to call, in another thread, with the text "stopped by SIGNAL".

    Yields:
        Nothing.
    """
    _last_words.append(last_words)
    try:
        yield
    finally:
        _last_words.remove(last_words)


def stop_on_signals(how_to_go_on: Callable[[], str]) -> None:
    """End the process on SIGINT or SIGTERM, with exit code 128 + the signal's number.

    A thread waits for them, since the main thread may stay in the network's engine for long.

    Args:
        how_to_go_on: Returns the end of the message: what to do now, or "".
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    # The interpreter writes the signal's number there, whatever the main thread does.
    signal.set_wakeup_fd(write)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # Standard error itself: while TensorFlow is imported, the number 2 leads to a file.
    stderr = os.dup(2)
    words = (read, stderr, how_to_go_on)
    threading.Thread(target=_wait, args=words, name="signals", daemon=True).start()


def _wait(read: int, stderr: int, how_to_go_on: Callable[[], str]) -> None:
    """Wait for a signal's number in the pipe ``read``, then end the process and its workers."""
    number = 0
    while number not in (signal.SIGINT, signal.SIGTERM):
        number = os.read(read, 1)[0]
    try:
        reason = f"stopped by {signal.Signals(number).name}"
        for words in list(_last_words):
            words(reason)
        # On a terminal, the progress line has no line end yet.
        line = "\n" if os.isatty(stderr) else ""
        text = f"{line}image-features: {reason}; the published tables are whole.{how_to_go_on()}\n"
        # The main thread goes on meanwhile: none of its log may come after the message.
        logging.disable()
        os.write(stderr, text.encode())
        sys.stdout.flush()
        end_children()
    finally:
        os._exit(128 + number)


def end_children() -> None:
    """End the processes that this one has started, before it ends itself.

    Beam's workers do not notice that the run has ended, and would wait for ever. One of them may
    have started while a run failed.
    """
    for worker in list(children(os.getpid())):
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def children(process: int, thread: int | None = None) -> Iterator[int]:
    """Iterate over the descendants of a process, each after its own descendants.

    Args:
        process: Id of the process.
        thread: Id of the thread whose descendants to take; ``None`` takes those of all threads.

    Yields:
        Process ids; none on a system without ``/proc``.
    """
    # The process may also have ended by itself.
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            if thread is None or task.name == str(thread):
                for child in map(int, (task / "children").read_text().split()):
                    yield from children(child)
                    yield child
