"""Watch a local run's worker processes: a run whose worker dies fails, and does not hang."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from pipeline.signals import children


class WorkerDied(Exception):
    """A worker process ended in the middle of a run."""


def watch_workers(kind: str, end: Future[Any]) -> None:
    """Register a kind of Beam environment whose worker processes are watched.

    Args:
        kind: The URN of the environment.
        end: The end of the run; fails with ``WorkerDied`` when a worker process dies.
    """
    from apache_beam.runners.portability import local_job_service
    from apache_beam.runners.portability.fn_api_runner import worker_handlers

    started: list[Any] = []

    @worker_handlers.WorkerHandler.register_environment(kind, bytes)
    # Beam has no types
    class Watched(worker_handlers.SubprocessSdkWorkerHandler):  # type: ignore[misc]
        closing = False

        def start_worker(self) -> None:
            self.worker = local_job_service.SubprocessSdkWorker(
                self._worker_command_line, self.control_address, self.provision_info, self.worker_id
            )
            self.worker_thread = threading.Thread(target=self.watch, name="run_worker", daemon=True)
            started.append(self)
            self.worker_thread.start()

        def watch(self) -> None:
            # Another worker died before this one was started.
            if end.done():
                return
            code = "exit code 0"
            try:
                self.worker.run()
            except RuntimeError as error:
                code = str(error)
            if not self.closing:
                # The end is set already when another worker died before.
                with suppress(InvalidStateError):
                    end.set_exception(WorkerDied(_how(code)))
                for other in started:
                    _kill(other.worker_thread)

        def close(self) -> None:
            self.closing = True
            super().close()


def _how(said: str) -> str:
    """Turn Beam's message about the end of a process into one that says what to do."""
    code = int(said.rpartition(" ")[2])
    # A shell reports a signal as 128 + number.
    number = -code if code < 0 else code - 128
    if number not in set(signal.Signals):
        return f"a worker process ended with exit code {code}; its output is above"
    more = (
        ", as when memory runs out: fewer --direct_num_workers need less memory"
        if number == signal.SIGKILL
        else ""
    )
    return f"a worker process was ended by {signal.Signals(number).name}{more}"


def _kill(thread: threading.Thread) -> None:
    """End the processes that a thread started."""
    for pid in children(os.getpid(), thread.native_id):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
