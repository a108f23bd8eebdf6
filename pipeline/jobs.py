"""Jobs: how a graph is handed to the runner, and waited for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.stall import StallWatch

if TYPE_CHECKING:
    import apache_beam as beam


@dataclass(slots=True)
class Submission:
    """How a graph is handed to the runner, and what tells that it moves."""

    beam_args: Sequence[str]
    watch: StallWatch

    def run(self, pipeline: beam.Pipeline) -> None:
        """Submit, and wait for the end. Raises whatever the runner raises, and ``Stalled``."""
        from apache_beam.utils.subprocess_server import SubprocessServer

        with SubprocessServer.cache_subprocesses():  # as `with pipeline` does: ends a server that Beam itself started
            result = pipeline.run()
            self.watch.wait(result.wait_until_finish)
