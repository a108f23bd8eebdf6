"""Measure a second Dask worker: ``python -m benchmarks.dask_scaling [--rounds N]``.

Needs ``apache-beam[dask]``. Runs ``extract`` on a Dask cluster of one and of two single-threaded
workers, each pinned to a core of its own. For comparison it runs one and two independent processes
that do the same, pinned alike. On most machines a second core brings less than a second machine
would, and no cluster can bring more than two independent processes. If two processes do twice the
work of one, two workers must do 1.8 times the work of one; if less, proportionally less.

Then measures the driver's memory at 2,000 and at 20,000 images, in shards of the usual size. (The
end of a run merges many more and smaller parts. That takes the memory of one merged part, some
0.7 GB, for any number of images.)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.images import make_images
from benchmarks.measure import peak_mib
from pipeline import Config

RUNNER = "apache_beam.runners.dask.dask_runner.DaskRunner"
IMAGES = 4_096
SHARD = 128
USUAL = Config(inputs=("-",), output="-").shard_size
# The minimum share of what a second independent process brings.
WANTED = 1.8 / 2


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """Start a scheduler and single-threaded workers, each on a core of its own.

    Yields:
        The address of the scheduler.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        note = Path(folder, "scheduler.json")
        files = ["--scheduler-file", str(note)]
        address = ["--host", "127.0.0.1", "--no-dashboard"]
        commands = [["scheduler", *files, *address, "--port", "0"]]
        single = ["--nworkers", "1", "--nthreads", "1", "--no-nanny", "--local-directory", folder]
        commands += [["worker", *files, *address, *single] for _ in range(workers)]
        for number, words in enumerate(commands):
            core = [] if not number else ["taskset", "-c", str(number - 1)]
            command = [*core, sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]]
            process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            stack.callback(process.terminate)
            while not note.exists() and process.poll() is None:
                time.sleep(0.1)
        url = json.loads(note.read_text(encoding="utf-8"))["address"]
        from distributed import Client

        with Client(url) as client:
            client.wait_for_workers(workers, timeout=60)
        yield url


def drive(address: str, folder: str, count: int, shard: int = SHARD) -> tuple[float, float]:
    """Run ``extract`` on a cluster, in a process of its own like the command.

    Args:
        address: Of the scheduler.
        folder: Of the images.
        count: How many images.
        shard: Images of a shard.

    Returns:
        The images per second of the extract stage, and the driver's peak memory in MiB.
    """
    words = [
        sys.executable,
        "-m",
        "benchmarks.dask_scaling",
        "--drive",
        address,
        folder,
        str(count),
        str(shard),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    rate, peak = done.stdout.split()[-2:]
    return float(rate), float(peak)


def _drive(address: str, folder: str, count: int, shard: int) -> None:
    from pipeline import extract

    with tempfile.TemporaryDirectory() as output:
        names, metrics = Path(output, "names"), Path(output, "metrics")
        files = sorted(Path(folder).glob("*.jpg"))[:count]
        names.write_text("\n".join(map(str, files)), encoding="utf-8")
        runner = (
            f"--runner={RUNNER}",
            f"--dask_client_address={address}",
            "--dask_partition_size=1",
        )
        config = Config(
            inputs=(f"list:{names}",), output=f"{output}/out", engine="openvino", shard_size=shard,
            cores_per_worker=1, beam_args=runner, metrics_json=str(metrics),
        )  # fmt: skip
        if extract(config).embedded != count:
            raise SystemExit("images are missing")
        print(
            count / json.loads(metrics.read_text(encoding="utf-8"))["seconds"]["extract"],
            peak_mib(),
        )


def independent(processes: int, folder: str) -> float:
    """Return the total images per second of concurrent processes, each with its core and images."""
    case = json.dumps(asdict(Case("ours", folder, IMAGES // 2)))
    running = [
        subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.child", case],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for core in range(processes)
    ]  # fmt: skip
    lines = (process.communicate()[0].splitlines()[-1] for process in running)
    return sum(float(json.loads(line)["images_per_second"]) for line in lines)


def speed_up(folder: str, rounds: int) -> None:
    """Print the speed-up by the second worker and by the second process."""
    seen: dict[str, list[float]] = {"cluster": [], "independent": []}
    for number in range(rounds):
        rates = {}
        for workers in (1, 2):
            with cluster(workers) as address:
                # The first run makes the workers load what they keep.
                drive(address, folder, SHARD * 4)
                rates["cluster", workers] = drive(address, folder, IMAGES)[0]
            rates["independent", workers] = independent(workers, folder)
        for kind, ratios in seen.items():
            ratios.append(rates[kind, 2] / rates[kind, 1])
            print(
                f"round {number + 1}: {kind} {rates[kind, 1]:.0f} → {rates[kind, 2]:.0f} images/s",
                flush=True,
            )
    two, alone = (statistics.median(ratios) for ratios in seen.values())
    met = "yes" if two / alone >= WANTED else "NO"
    print(
        f"cluster {two:.2f}×, independent processes {alone:.2f}×: {two / alone:.2f} of it (≥ "
        f"{WANTED:g}: {met})"
    )


def memory(folder: str) -> None:
    """Print the driver's memory at 2,000 and 20,000 images."""
    with cluster(2) as address:
        for count in (2_000, 20_000):
            rate, peak = drive(address, folder, count, USUAL)
            print(f"driver at {count:,} images: {peak:.0f} MiB; {rate:.0f} images/s", flush=True)


def main() -> None:
    """Measure speed and memory, or only the part that is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dask_scaling", description=__doc__)
    parser.add_argument(
        "--images", type=Path, default=Path(tempfile.gettempdir()) / "image-features-bench"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=("speed", "memory"), action="append")
    # For the measured process.
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("no_proxy", "localhost,127.0.0.1")
    if arguments.drive:
        address, folder, count, shard = arguments.drive
        _drive(address, folder, int(count), int(shard))
        return
    folder = arguments.images / "small"
    parts = arguments.part or ["speed", "memory"]
    make_images(folder, 20_000 if "memory" in parts else IMAGES, "small")
    if "speed" in parts:
        speed_up(str(folder), arguments.rounds)
    if "memory" in parts:
        memory(str(folder))


if __name__ == "__main__":
    main()
