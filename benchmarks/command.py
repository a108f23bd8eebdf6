"""Run the command as its users do, in a process of its own with an empty or a filled cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Command:
    """One ``image-features extract``, start-up and commit included."""

    seconds: float
    peak_mib: float
    metrics: dict[str, Any]  # its line of ``--metrics-json``

    def before_images(self) -> float:
        """Return the seconds before the first image: all but the workers' stages and the commit."""
        work = sum(self.metrics["worker_seconds"].values()) + self.metrics["seconds"]["publish"]
        return self.seconds - float(work)

    def shares(self) -> str:
        """Return the shares of the workers' time by stage, from the receipts."""
        stages = self.metrics["worker_seconds"]
        total = sum(stages.values())
        return ", ".join(f"{stage} {100 * taken / total:.0f} %" for stage, taken in stages.items())


def extract(images: Sequence[Path], cache: Path, options: Sequence[str] = ()) -> Command:
    """Run the command on ``images``, with ``cache`` as the user's cache of exported networks."""
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "names")
        names.write_text("\n".join(map(str, images)), encoding="utf-8")
        return extract_input(f"list:{names}", cache, options)


def extract_input(source: str, cache: Path, options: Sequence[str] = ()) -> Command:
    """Run the command on one ``--input``; see ``extract``."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder, "metrics")
        words = [sys.executable, "-m", "pipeline.cli", "extract", "--input", source]
        words += ["--output", f"{folder}/out", "--metrics-json", str(metrics), *options]
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(cache),
            "no_proxy": "localhost,127.0.0.1",
        }
        begin = time.perf_counter()
        with Path(folder, "log").open("w") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        # wait4 has waited for the process, so Popen cannot get its exit code.
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(Path(folder, "log").read_text(encoding="utf-8")[-2000:])
        # Of several backbones, the first line is the first one's.
        line = metrics.read_text(encoding="utf-8").splitlines()[0]
        return Command(seconds, usage.ru_maxrss / 1024, json.loads(line))
