"""The worker processes of a run on this machine: the death of one ends the run, which would wait for it for ever."""

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
    """Teach Beam environments of a ``kind`` whose worker processes are watched: ``end`` fails when one of them dies."""
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
            code = "exit code 0"
            try:
                self.worker.run()
            except RuntimeError as error:
                code = str(error)
            if not self.closing:
                with suppress(InvalidStateError):  # another one died before
                    end.set_exception(WorkerDied(_how(code)))
                for other in started:
                    _kill(other.worker_thread)

        def close(self) -> None:
            self.closing = True
            super().close()


def _how(said: str) -> str:
    """What Beam says of the end of a process, in a line that says what to do."""
    code = int(said.rpartition(" ")[2])
    # The second is how a shell tells of it
    number = -code if code < 0 else code - 128
    if number not in set(signal.Signals):
        return f"a worker process ended with exit code {code}; what it said stands above"
    more = (
        ", as when memory runs out: fewer --direct_num_workers need less"
        if number == signal.SIGKILL
        else ""
    )
    return f"a worker process was ended by {signal.Signals(number).name}{more}"


def _kill(thread: threading.Thread) -> None:
    """End the processes that a thread started."""
    for pid in children(os.getpid(), thread.native_id):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
