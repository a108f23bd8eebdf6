"""Read a Dockerfile's instructions, and run its RUN lines without a container engine.

    python tests/helpers/dockerfile_runs.py launch/Dockerfile cpu /tmp/scratch

A virtual environment of this Python replaces that of the base image. It needs a package registry,
and takes minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return keyword and arguments of each instruction, without comments, on one line each."""
    lines = [
        line
        for line in dockerfile.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [
        (words[0], " ".join(words[1].split())) for line in joined if (words := line.split(None, 1))
    ]


def stage(dockerfile: Path, target: str) -> list[tuple[str, str]]:
    """Return the instructions that make ``target``, after those of the stages below it."""
    stages: dict[str, list[tuple[str, str]]] = {}
    for keyword, words in instructions(dockerfile):
        if keyword == "FROM":
            base, _, name = words.split()
            stages[name] = list(stages.get(base, []))
        elif stages:
            stages[name].append((keyword, words))
    return stages[target]


def run(dockerfile: Path, target: str, scratch: Path, tag: str) -> None:
    """Do what a build of ``target`` does, in a folder and an environment of its own."""
    venv.create(scratch / "python", with_pip=True)
    source = scratch / "src"
    source.mkdir()
    keep = {
        name: os.environ[name]
        for name in os.environ
        if not name.startswith(("VIRTUAL_ENV", "PYTHON"))
    }
    environment = {
        **keep,
        "PATH": f"{scratch}/python/bin:/usr/bin:/bin",
        "HOME": str(scratch),
        "TAG": tag,
    }
    for keyword, words in stage(dockerfile, target):
        if keyword == "ENV":
            environment |= dict(pair.split("=", 1) for pair in words.split())
        elif keyword == "COPY" and not words.startswith("--from"):
            *names, place = words.split()
            for name in names:
                into = source / place / (Path(name).name if place.endswith("/") else "")
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                into.parent.mkdir(parents=True, exist_ok=True)
                copy(ROOT / name, into)
        elif keyword == "RUN":
            print(f"RUN {words}", flush=True)
            subprocess.run(["/bin/sh", "-c", words], cwd=source, env=environment, check=True)


if __name__ == "__main__":
    from pipeline.runners.version import versions

    run(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), versions())
