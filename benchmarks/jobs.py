"""Measure whole jobs, ours and the peers', each as a command: seconds, memory, and odd files.

The peers run where ``PEERS_PYTHON`` names a Python that has them, and OpenVINO and Pillow.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.cases import Case
from benchmarks.images import load_photo, make_images
from benchmarks.rows import Row, Settings
from pipeline.signals import children

_PEERS = ("daft", "datasets", "pyspark", "ray")
_FEW, _MANY, _HUGE = 200, 2_200, 40
_SIZES = {"few": (_FEW, "small"), "many": (_MANY, "small"), "huge": (_HUGE, "huge")}
_TIMEOUT = 900  # seconds
# A vector is right from this cosine on: conversions of CMYK differ a little.
_RIGHT = 0.97


@dataclass(frozen=True, slots=True)
class Job:
    """One command, from its start to its exit."""

    seconds: float
    peak_mib: float  # of all its processes, shared memory counted once
    code: int


def jobs(settings: Settings) -> Iterator[Row]:
    """Measure jobs of 200 and 2,200 images, of 12 megapixels, and three odd files."""
    kinds = ["ours", *(kind for kind in _PEERS if not _left_out(kind))]
    seen: dict[str, dict[str, list[Job]]] = {}
    for name, (count, size) in _SIZES.items():
        folder = settings.folder / f"{size}-{count}"
        make_images(folder, count, size)
        _job("ours", folder)  # exports the network, and reads the files once
        seen[name] = {kind: [] for kind in kinds}
        for _ in range(settings.rounds):
            for kind in kinds:
                seen[name][kind].append(_job(kind, folder))
    for kind in kinds:
        yield from _rows(kind, {name: runs[kind] for name, runs in seen.items()})
    for kind in kinds:
        answers = {what: _odd(kind, make) for what, make in _ODD.items()}
        right = sum(answer in ("right", "reported") for answer in answers.values())
        detail = ", ".join(f"{what}: {answer}" for what, answer in answers.items())
        yield Row(f"odd files, {kind}", right, "of 3 right", detail=detail)


def _rows(kind: str, runs: dict[str, list[Job]]) -> Iterator[Row]:
    few, many, huge = (
        statistics.median(job.seconds for job in runs[name]) for name in ("few", "many", "huge")
    )
    memory = statistics.median(job.peak_mib for job in runs["many"])
    yield Row(f"job of {_FEW} images, {kind}", few, "s")
    yield Row(f"job of {_MANY:,} images, {kind}", many, "s", detail=f"{memory:.0f} MiB")
    yield Row(f"steady, {kind}", (_MANY - _FEW) / (many - few), "images/s")
    yield Row(f"job of {_HUGE} images of 12 megapixels, {kind}", huge, "s")


def _left_out(kind: str) -> bool:
    """Tell whether a peer cannot run here, and say why."""
    python = os.environ.get("PEERS_PYTHON")
    reason = "PEERS_PYTHON names no Python with it" if not python else ""
    if python:
        code = f"import {kind}, openvino, PIL"
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        reason = (done.stderr.splitlines() or [""])[-1] if done.returncode else ""
    if reason:
        print(f"  {kind} is left out: {reason}", file=sys.stderr)
    return bool(reason)


def _job(kind: str, folder: Path, output: Path | None = None) -> Job:
    """Run one job; one that fails is an error, unless its ``output`` is to be looked at."""
    with tempfile.TemporaryDirectory() as scratch:
        done = _run(_words(kind, folder, output or Path(scratch, "out")), Path(scratch, "log"))
        if done.code and not output:
            raise SystemExit(f"{kind} failed:\n{Path(scratch, 'log').read_text()[-2000:]}")
        return done


def _words(kind: str, folder: Path, output: Path) -> list[str]:
    if kind == "ours":
        words = [sys.executable, "-m", "pipeline.cli", "extract", "--input", str(folder)]
        return [*words, "--output", str(output), "--engine", "openvino", "--max-failure-rate", "1"]
    script = str(Path(__file__).with_name("peer_jobs.py"))
    export = Case("ours", str(folder)).engine_folder()
    return [os.environ["PEERS_PYTHON"], script, kind, str(export), str(folder), str(output)]


def _run(words: list[str], log: Path) -> Job:
    environment = {**os.environ, "no_proxy": "localhost,127.0.0.1"}
    begin, peak = time.perf_counter(), 0.0
    with log.open("w") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env=environment)
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
                break
            peak = max(peak, _memory(process.pid))
            if time.perf_counter() - begin > _TIMEOUT:
                process.kill()
    return Job(time.perf_counter() - begin, peak, process.returncode)


def _memory(pid: int) -> float:
    """Return the proportional memory of a process and its descendants, in MiB."""
    total = 0
    for one in [pid, *children(pid)]:
        # It may have ended meanwhile.
        with suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _odd(kind: str, make: Callable[[Image.Image, Path], None]) -> str:
    """Give a job one good photo and the odd form of it; say what became of the odd one."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, output = Path(scratch, "images"), Path(scratch, "out")
        folder.mkdir()
        photo = load_photo("chelsea.png")
        photo.save(folder / "good.jpg", quality=95)
        make(photo, folder / "odd.jpg")
        if _job(kind, folder, output).code:
            return "the whole job is lost"
        vectors = _vectors(output)
        if "odd.jpg" not in vectors:
            return "reported" if kind == "ours" else "left out"
        good, odd = (vectors[name].astype(float) for name in ("good.jpg", "odd.jpg"))
        cosine = float(good @ odd / np.linalg.norm(good) / np.linalg.norm(odd))
        # There is no right vector of half a photo.
        right = cosine >= _RIGHT and make is not _cut
        return "right" if right else f"a wrong vector, without a word (cosine {cosine:.2f})"


def _vectors(output: Path) -> dict[str, np.ndarray]:
    tables = [
        pq.read_table(path)
        for path in (*output.glob("*.parquet"), *output.glob("features/*.parquet"))
    ]
    return {
        Path(row.get("uri") or row["path"]).name: np.array(row["embedding"], np.float32)
        for table in tables
        for row in table.to_pylist()
    }


def _cut(photo: Image.Image, path: Path) -> None:
    photo.save(path, "JPEG", quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _turned(photo: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(path, "JPEG", quality=95, exif=exif)


def _cmyk(photo: Image.Image, path: Path) -> None:
    photo.convert("CMYK").save(path, "JPEG", quality=95)


_ODD = {"cut in half": _cut, "turned by EXIF": _turned, "CMYK": _cmyk}
