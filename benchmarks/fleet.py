"""Simulate 10⁹ images on 10,000 workers: ``python -m benchmarks.fleet [--receipts FOLDER]``.

Each shard goes to a free worker. Its seconds are drawn from those of measured shards (the receipts
of a real run in FOLDER, by default those below). Workers are preempted and lose their current
shard, shards fail and are done again, and some take several times as long. Prints for each shard
size how much longer the job takes than the images alone, the shares of the workers' time, and the
load on the store and the commit.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

PIECE = 64  # images of a measured shard
# Milliseconds per image of 32 shards of 64: 500×375 JPEGs, efficientnet_lite0, OpenVINO, float32,
# two cores.
_SHARDS = """
4.45 3.41 3.37 3.45 3.40 3.46 3.34 3.35 3.42 3.38 3.33 3.44 3.38 3.40 3.36 3.34 3.38 3.42 3.40 3.34
3.32 3.29 3.27 3.39 3.31 3.25 3.25 3.29 3.31 3.25 3.28 3.30
"""
MEASURED = tuple(float(text) / 1000 for text in _SHARDS.split())


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers and their faults; times in seconds.

    Everything except the measured shards is an assumption.
    """

    images: int = 1_000_000_000
    workers: int = 10_000
    speed: float = 1.0  # of a worker, relative to the measured one
    # Time for each shard: six requests of 40 ms, and the network's wait for the first images.
    fixed: float = 0.5
    # Sigma of the workers' speeds, log-normal: neighbours on the same machine slow them.
    speeds_differ: float = 0.1
    # Mean time from the request for a worker, or for a replacement, to its first shard.
    start: float = 180.0
    # Mean time between preemptions of a worker.
    preempted_each: float = 6 * 3600.0
    # Share of shards that fail half-way and are done again.
    failures: float = 0.001
    # Share of shards that take ``straggle`` times as long.
    stragglers: float = 0.001
    straggle: float = 8.0


class Simulation:
    """One simulated job, in the order of its events.

    ``makespan`` is in seconds of the job; ``useful`` and ``lost`` are in seconds of all workers.
    """

    def __init__(
        self, shard_size: int, fleet: Fleet, seconds: Sequence[float], seed: int = 0
    ) -> None:
        self.makespan = self.useful = self.lost = 0.0
        self.repeated = 0  # shards
        self.shards = -(-fleet.images // shard_size)
        self._fleet = fleet
        self._random = np.random.default_rng(seed)
        self._work = self._draw(shard_size, np.asarray(seconds) * PIECE / fleet.speed)
        self._fails = self._random.random(self.shards) < fleet.failures
        self._pending = list(range(self.shards))
        self._idle: list[int] = []
        self._speed = self._random.lognormal(0.0, fleet.speeds_differ, fleet.workers)
        starts = fleet.start / 2 + self._random.exponential(fleet.start / 2, fleet.workers)
        self._dies = starts + self._random.exponential(fleet.preempted_each, fleet.workers)
        # Each event is a time, a worker, and the shard that the worker finishes or, as ~shard,
        # loses; None for a worker that starts.
        self._events: list[tuple[float, int, int | None]] = [
            (t, w, None) for w, t in enumerate(starts.tolist())
        ]

    def run(self) -> Simulation:
        """Simulate until no shard is left, and return the simulation."""
        heapq.heapify(self._events)
        while self._events:
            now, worker, shard = heapq.heappop(self._events)
            if shard is not None and shard >= 0:
                self.makespan = now
            elif shard is not None:
                self.repeated += 1
                self._pending.append(~shard)
                if self._idle:
                    heapq.heappush(self._events, (now, self._idle.pop(), None))
            self._next(now, worker)
        return self

    def _next(self, now: float, worker: int) -> None:
        """Have a free worker replaced, give it a shard, or let it wait."""
        if now >= self._dies[worker]:
            back = now + self._fleet.start
            self._dies[worker] = back + self._random.exponential(self._fleet.preempted_each)
            heapq.heappush(self._events, (back, worker, None))
        elif self._pending:
            self._begin(now, worker, self._pending.pop())
        else:
            self._idle.append(worker)

    def _begin(self, now: float, worker: int, shard: int) -> None:
        seconds = self._fleet.fixed + float(self._work[shard]) / float(self._speed[worker])
        end = now + (seconds / 2 if self._fails[shard] else seconds)
        whole = end < self._dies[worker] and not self._fails[shard]
        self._fails[shard] = False
        end = min(end, float(self._dies[worker]))
        if whole:
            self.useful += seconds
        else:
            self.lost += end - now
        heapq.heappush(self._events, (end, worker, shard if whole else ~shard))

    def _draw(self, size: int, measured: np.ndarray) -> np.ndarray:
        """Draw the seconds of each shard at normal speed: the sum of its pieces; some straggle."""
        pieces = size / PIECE
        if pieces <= 16:
            work = (
                self._random.choice(measured, (self.shards, max(1, round(pieces)))).mean(1) * pieces
            )
        else:
            # The sum of many pieces is close to a normal distribution.
            work = self._random.normal(
                measured.mean() * pieces, measured.std() * pieces**0.5, self.shards
            )
        slow = self._random.random(self.shards) < self._fleet.stragglers
        seconds: np.ndarray = np.where(slow, work * self._fleet.straggle, work)
        return seconds


HEADER = (
    "| shard size | shards | job, min | against the work alone | fixed | lost | idle | repeated "
    "| writes/s | list calls |\n|---|---|---|---|---|---|---|---|---|---|"
)


def line(shard_size: int, fleet: Fleet, seconds: Sequence[float]) -> str:
    """Simulate a job and return its row of the table.

    Shares are of the workers' time from the first start to the end.

    Args:
        shard_size: Images of a shard.
        fleet: The workers.
        seconds: Seconds per image of each measured shard.
    """
    seen = Simulation(shard_size, fleet, seconds).run()
    alone = fleet.images * float(np.mean(seconds)) / fleet.speed / fleet.workers
    total = seen.makespan * fleet.workers
    fixed = seen.shards * fleet.fixed
    idle = total - seen.useful - seen.lost - fleet.start * fleet.workers
    shares = " | ".join(f"{100 * part / total:.1f} %" for part in (fixed, seen.lost, idle))
    # Each shard writes a part and a receipt.
    writes = 2 * seen.shards / (seen.makespan - fleet.start)
    return (
        f"| {shard_size:,} | {seen.shards:,} | {seen.makespan / 60:.1f} | "
        f"{seen.makespan / alone:.2f}× | {shares} | {seen.repeated:,} | {writes:,.0f} | "
        f"{-(-seen.shards // 1000):,} |"
    )


def measured(folder: str) -> list[float]:
    """Read each shard's seconds per image from the receipts of a run with ``PIECE`` images each."""
    receipts = [
        json.loads(path.read_bytes()) for path in sorted(Path(folder).rglob("receipts/*.json"))
    ]
    return [sum(receipt["seconds"].values()) / receipt["references"] for receipt in receipts]


def main() -> None:
    """Print the table for workers like the measured one, and for workers with a GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument(
        "--receipts", metavar="FOLDER", help=f"output of a run with --shard-size {PIECE}"
    )
    parser.add_argument("--images", type=int, default=Fleet().images)
    parser.add_argument("--workers", type=int, default=Fleet().workers)
    arguments = parser.parse_args()
    seconds = measured(arguments.receipts) if arguments.receipts else MEASURED
    fleet = Fleet(arguments.images, arguments.workers)
    rate = 1 / float(np.mean(seconds))
    print(
        f"{len(seconds)} measured shards: {rate:.0f} images/s, ± "
        f"{100 * np.std(seconds) * rate:.0f} % (one sigma)"
    )
    for speed, workers in ((1.0, fleet.workers), (2000 / rate, fleet.workers // 20)):
        print(
            f"\n{workers:,} workers of {rate * speed:,.0f} images/s, {fleet.images:,} "
            f"images\n\n{HEADER}",
            flush=True,
        )
        for shard_size in (256, 512, 1024, 2048, 4096, 8192, 16384):
            print(
                line(shard_size, replace(fleet, workers=workers, speed=speed), seconds), flush=True
            )


if __name__ == "__main__":
    main()
