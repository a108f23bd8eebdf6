#!/usr/bin/env python3
"""Starts one worker on this machine: the command of Beam's PROCESS environment, as in launch/prism.args.

It runs Beam's own ``boot``, the entry point of Beam's worker images, which ``make engines`` builds
into .venv/bin, and gives it what those images give and a bare machine does not:

- An environment of the worker's own on top of this machine's Python, so that packages which a run
  stages (``--setup_file``, ``--extra_package``) are installed there and nowhere else.
- A folder of its own; ``boot`` would take /tmp for all workers of the machine.
- An end. When the runner is gone, or ``boot`` itself, its Python processes would live on.
"""

import os
import subprocess
import sys
from pathlib import Path

from leash import find, on_leash


def main() -> None:
    """Become ``boot``."""
    boot, python = find("boot"), find("python")
    folder = on_leash()
    os.environ["PATH"] = f"{own_environment(python, folder / 'venv')}:{os.environ['PATH']}"
    os.environ["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"] = (
        # boot's own would not see the packages of a venv
        "1"
    )
    os.chdir(folder)  # boot writes a file there
    words = [
        word.replace("'", "")
        for word in sys.argv[1:]
        # Prism 2.77 puts the worker's id into quotes
    ]
    os.execv(boot, [boot, *words, f"--semi_persist_dir={folder}"])


def own_environment(python: str, folder: Path) -> Path:
    """Make a virtual environment that sees all packages of ``python``; returns its folder of programs."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    question = "import site; print(*site.getsitepackages(), sep='\\n')"
    below = subprocess.run(
        [python, "-c", question], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()
    [packages] = folder.glob("lib/python*/site-packages")
    packages.joinpath("below.pth").write_text(
        "".join(f"import site; site.addsitedir({path!r})\n" for path in below)
    )
    return folder / "bin"


if __name__ == "__main__":
    main()
