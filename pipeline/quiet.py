"""Silence for what Beam and gRPC say of themselves: it is no news, and it hides what is.

- gRPC notes each program that is started beside a run ("fork_posix.cc … skipping fork() handlers").
- Beam 2.77 without the ``gcp`` extra logs "apitools not found" at its import, by ``logging.warning``. In a process
  whose logging is not set up that also sets it up, and a worker then says all that it does on standard error.
"""

from __future__ import annotations

import logging
import os
import shlex

_WORKER = """\
import logging, runpy
logging.getLogger().addHandler(logging.NullHandler())
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)"""


def hush() -> None:
    """For this process and those that it starts; before Beam is imported."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logging.getLogger().addFilter(_is_news)


def quiet_worker(command: str) -> str:
    """A shell's command for a worker process that runs what ``PYTHON -m MODULE`` does; PYTHON may have spaces.

    What the worker logs still reaches its runner, and a traceback standard error.
    """
    python, _, module = command.rpartition(" -m ")
    return shlex.join([python, "-c", _WORKER.format(module=module)])


def _is_news(record: logging.LogRecord) -> bool:
    return "apitools not found" not in str(record.msg)
