"""Measure wall-clock seconds per stage, for the receipt and for the run's bottleneck."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")


class Stopwatch:
    """Add up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the duration of the block to ``stage``, also if the block fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to ``stage``."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def waiting(self, stage: str, items: Iterable[_T]) -> Iterator[_T]:
        """Yield ``items``, and add the time spent waiting for each to ``stage``."""
        iterator = iter(items)
        while True:
            with self.time(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
