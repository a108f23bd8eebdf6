"""A leash: a program and all that it starts end with the process that started it, however that ended (Linux).

Runners start workers, and drivers start runners, as child processes; killed, they leave them behind
at work.
"""

import os
import select
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

# In the environment of all processes of a leash: its scratch folder. A leash on a leash (a worker's
# on its runner's) has its folder in the outer one, and so the outer one holds all that the inner
# one does, and the inner one itself.
_MARK = "IMAGE_FEATURES_LEASH"


def on_leash() -> Path:
    """Put this process on a leash, before it becomes the program; returns a scratch folder that goes with it.

    A second process stays behind, and is nobody's child: whoever kills all descendants does not
    kill it. Once this one or its parent is gone, it kills what has this one's mark, and deletes the
    folder. Where the system cannot tell (macOS), there is no leash.
    """
    scratch = tempfile.mkdtemp(prefix="image-features-", dir=os.environ.get(_MARK))
    parent = os.getppid()
    if hasattr(os, "pidfd_open"):
        try:
            watched = [os.pidfd_open(parent), os.pidfd_open(os.getpid())]
        except ProcessLookupError:
            sys.exit(f"{Path(sys.argv[0]).name}: process {parent}, which started it, is gone")
        between = os.fork()
        if between == 0:
            try:
                if os.fork() == 0:
                    _hold(*watched, scratch)
            finally:
                os._exit(0)
        os.waitpid(between, 0)
    os.environ[_MARK] = scratch
    return Path(scratch)


def _hold(parent: int, program: int, scratch: str) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    # A reader of the program's output would wait for this process too
    for stream in range(3):
        os.dup2(nothing, stream)
    ended = select.poll()
    for process in (parent, program):
        ended.register(process, select.POLLIN)
    ended.poll()
    with suppress(ProcessLookupError):
        # By its handle: it has its own mark only once it has become the program
        signal.pidfd_send_signal(program, signal.SIGKILL)
    while pids := _marked(scratch):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(scratch, ignore_errors=True)


def _marked(scratch: str) -> list[int]:
    mark = f"{_MARK}={scratch}/".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or another user's
            variables = (folder / "environ").read_bytes().split(b"\0")
            if any((variable + b"/").startswith(mark) for variable in variables):
                found.append(int(folder.name))
    return found


def find(program: str) -> str:
    """Where ``program`` is: in the project's .venv, or on the PATH; puts the former first on the PATH."""
    local = Path(__file__).resolve().parent.parent / ".venv/bin"
    if str(local) not in os.environ["PATH"].split(":"):
        os.environ["PATH"] = f"{local}:{os.environ['PATH']}"
    found = shutil.which(program)
    if found is None:
        sys.exit(f"{Path(sys.argv[0]).name}: no program {program!r} in {local} or on the PATH")
    return found
