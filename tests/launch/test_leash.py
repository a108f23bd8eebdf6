"""launch/leash.py: a program ends, with all that it started, when its parent ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.clusters import ROOT, until
from tests.helpers.processes import alive, descendants

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the leash is Linux's")

# A program on a leash: prints its own id, that of a child in a session of its own, and its folder;
# then becomes another program.
_PROGRAM = """
import os, subprocess, sys
from leash import on_leash
folder = on_leash()
child = subprocess.Popen(sys.argv[1:] or ["sleep", "1000"], start_new_session=True)
print(os.getpid(), child.pid, folder, flush=True)
os.execvp("sleep", ["sleep", "1000"])
"""
_PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def start(*words):
    command = [sys.executable, "-c", _PARENT, _PROGRAM, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "launch")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def said(parent):
    program, child, folder = parent.stdout.readline().split()
    return int(program), int(child), Path(folder)


def gone(*pids):
    return not any(alive(pid) for pid in pids)


def test_a_killed_parent_takes_the_program_its_children_and_its_folder_along():
    with start() as parent:
        program, child, folder = said(parent)
        assert not gone(program)
        assert folder.is_dir()
        parent.kill()
        until(lambda: gone(program, child) and not folder.exists(), 20)


def test_a_killed_program_takes_its_children_along():
    with start() as parent:
        program, child, folder = said(parent)
        os.kill(program, signal.SIGKILL)
        until(lambda: gone(program, child) and not folder.exists(), 20)
        assert parent.wait(timeout=20) == 0


def test_what_is_killed_with_all_its_descendants_leaves_no_folder_behind():
    """A signal that stops a run kills them like that."""
    with start() as parent:
        program, child, folder = said(parent)
        for pid in [*descendants(parent.pid), parent.pid]:
            os.kill(pid, signal.SIGKILL)
        until(lambda: gone(program, child) and not folder.exists(), 20)


def test_a_leash_on_a_leash_ends_with_the_outer_one():
    with start(sys.executable, "-c", _PROGRAM) as parent:
        first, second = said(parent), said(parent)
        outer, inner = sorted((first, second), key=lambda line: len(line[2].parts))
        assert inner[2].parent == outer[2]
        os.kill(outer[0], signal.SIGKILL)
        until(lambda: gone(*outer[:2], *inner[:2]) and not outer[2].exists(), 20)
