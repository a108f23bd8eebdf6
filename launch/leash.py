"""Put a program on a leash: it ends, with all that it starts, when its parent ends (Linux).

Drivers start runners, and runners start workers, as child processes. A killed parent would leave
them running.
"""

import os
import select
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

# The scratch folder of a leash, in the environment of all its processes. A leash inside another one
# (a worker's inside its runner's) has its folder in the outer one's folder. So the outer leash also
# holds the inner one and all its processes.
_MARK = "IMAGE_FEATURES_LEASH"


def on_leash() -> Path:
    """Put this process on a leash before it becomes the program.

    A second process stays behind as a child of nobody, so that killing all descendants does not
    kill it. Once this process or its parent is gone, it kills all processes with this process's
    mark and deletes the folder. Where the system has no handles for processes (macOS), there is no
    leash.

    Returns:
        A scratch folder that is deleted at the end.
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
    # A reader of the program's output would otherwise wait for this process too.
    for stream in range(3):
        os.dup2(nothing, stream)
    ended = select.poll()
    for process in (parent, program):
        ended.register(process, select.POLLIN)
    ended.poll()
    # Kill the program by its handle: it has its mark only once it has become the program.
    with suppress(ProcessLookupError):
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
        # The process may have ended meanwhile, or be another user's.
        with suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            if any((variable + b"/").startswith(mark) for variable in variables):
                found.append(int(folder.name))
    return found


def find(program: str) -> str:
    """Find a program in the project's .venv or on the PATH; put the .venv first on the PATH.

    Args:
        program: Its name.

    Returns:
        Its path.

    Raises:
        SystemExit: There is no such program.
    """
    local = Path(__file__).resolve().parent.parent / ".venv/bin"
    if str(local) not in os.environ["PATH"].split(":"):
        os.environ["PATH"] = f"{local}:{os.environ['PATH']}"
    found = shutil.which(program)
    if found is None:
        sys.exit(f"{Path(sys.argv[0]).name}: no program {program!r} in {local} or on the PATH")
    return found
