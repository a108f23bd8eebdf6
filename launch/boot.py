#!/usr/bin/env python3
"""Start one worker on this machine: the command of Beam's PROCESS environment in launch/prism.args.

It runs Beam's own ``boot``, the entry point of Beam's worker images, which ``make engines`` builds
into .venv/bin. It adds what those images have and a bare machine lacks:

- A virtual environment for each worker, on top of this machine's Python. Packages that a run stages
  (``--setup_file``, ``--extra_package``) are installed only there.
- A folder for each worker; ``boot`` would use /tmp for all workers of the machine.
- An end. When the runner or ``boot`` itself dies, its Python processes would live on.
"""

import os
import subprocess
import sys
from pathlib import Path

from leash import find, on_leash


def main() -> None:
    """Replace this process by ``boot``."""
    boot, python = find("boot"), find("python")
    folder = on_leash()
    os.environ["PATH"] = f"{own_environment(python, folder / 'venv')}:{os.environ['PATH']}"
    # The environment that boot makes itself would not see the packages of a venv.
    os.environ["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"] = "1"
    # boot writes a file into its working directory.
    os.chdir(folder)
    # Prism 2.77 puts the worker's id into quotes.
    words = [word.replace("'", "") for word in sys.argv[1:]]
    os.execv(boot, [boot, *words, f"--semi_persist_dir={folder}"])


def own_environment(python: str, folder: Path) -> Path:
    """Make a virtual environment that sees all packages of ``python``.

    Args:
        python: Path of a Python.
        folder: Where to make the environment.

    Returns:
        The environment's folder of programs.
    """
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
