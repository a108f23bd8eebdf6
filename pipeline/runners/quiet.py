"""Silence irrelevant messages of Beam and gRPC, which hide the relevant ones.

- gRPC logs each program that is started during a run ("fork_posix.cc … skipping fork() handlers").
  Its fork handlers sometimes end a process ("mutex.cc … Mutex::Fer",
  https://github.com/grpc/grpc/issues/37710; Beam's own tests turn them off). They are for programs
  that fork and go on with gRPC; here a fork only starts another program.
- Beam 2.77 without the ``gcp`` extra logs "apitools not found" at its import, by
  ``logging.warning``. In a process whose logging is not set up this call also sets it up, and a
  worker then logs everything to standard error.
"""

from __future__ import annotations

import logging
import os
import shlex
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])
_WORKER = """\
import logging, runpy, sys
sys.path.append({root!r})
logging.getLogger().addHandler(logging.NullHandler())
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)"""

# What Beam logs as news about its own type hints and graphs, hundreds of lines for each run.
_CHATTY = ("apache_beam.typehints", "apache_beam.runners")


def hush() -> None:
    """Silence this process and those that it starts. Must be called before Beam is imported."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    logging.getLogger().addFilter(_is_news)
    for name in _CHATTY:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def quiet_worker(command: str) -> str:
    """Return a shell command for a quiet worker process.

    The worker's log still reaches its runner, and a traceback still reaches standard error. The
    worker does not search the working directory for modules: a file ``pipeline.py`` or
    ``transforms.py`` there would hide ours.

    Args:
        command: ``PYTHON -m MODULE``, unquoted; PYTHON may contain spaces.
    """
    python, _, module = command.rpartition(" -m ")
    return shlex.join([python, "-P", "-c", _WORKER.format(module=module, root=_ROOT)])


def _is_news(record: logging.LogRecord) -> bool:
    return "apitools not found" not in str(record.msg)
