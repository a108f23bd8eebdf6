"""Parse Beam's options once: the runner, its workers and the place of its jobs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.runners.flags import check_runner
from transforms.engines.base import available_cores
from transforms.errors import UserError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

DATAFLOW = "Dataflow "


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """Beam's options, parsed. Without options Beam is not imported."""

    args: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)  # of all options, by name
    given: Mapping[str, Any] = field(default_factory=dict)  # of the options that were given

    @classmethod
    def parse(cls, args: Sequence[str]) -> RunnerOptions:
        """Parse options, written as on Beam's own command line.

        Raises:
            UserError: An option has an invalid value.
        """
        if not args:
            return cls()
        from apache_beam.options.pipeline_options import PipelineOptions

        try:
            options = PipelineOptions(list(args))
            runner = options.get_all_options()["runner"]
            if runner:
                # A runner that is named with its module brings options of its own.
                check_runner(runner)
                options = PipelineOptions(list(args))
            given = options.get_all_options(drop_default=True)
            return cls(tuple(args), options.get_all_options(), given)
        except SystemExit:
            # Beam's parser has printed what is invalid.
            raise UserError(f"cannot read the Beam options {shlex.join(args)}") from None

    def for_beam(self, more: Sequence[str] = ()) -> PipelineOptions:
        """Return the options as a Beam object, with ``more`` options added."""
        from apache_beam.options.pipeline_options import PipelineOptions

        return PipelineOptions([*self.args, *more])

    @property
    def is_alone(self) -> bool:
        """Whether this process is the only worker, and needs no runner: no option was given."""
        return not self.args

    @property
    def is_local(self) -> bool:
        """Whether this process is the runner, with or without worker processes."""
        return self.values.get("runner") in (None, "DirectRunner")

    @property
    def works_here(self) -> bool:
        """Whether the workers run on this machine, with what is installed here."""
        return self.is_local or self.values.get("environment_type") == "LOOPBACK"

    @property
    def on_dask(self) -> bool:
        """Whether the runner is Beam's for Dask."""
        return str(self.values.get("runner")).rpartition(".")[2] == "DaskRunner"

    @property
    def on_dataflow(self) -> bool:
        """Whether the runner is Dataflow's, under any of its names."""
        name: str = self.values.get("runner") or ""
        return name.rpartition(".")[2].lower() in ("dataflowrunner", "dataflow")

    @property
    def workers(self) -> int:
        """The number of shards that the runner's options allow at once; at least 1."""
        names = ("direct_num_workers", "max_num_workers", "num_workers", "parallelism")
        counts = [value for name in names if isinstance(value := self.values.get(name), int)]
        return max([1, *counts])

    @property
    def cores_per_worker(self) -> int | None:
        """The cores of each local worker process, which share the machine; None: all cores.

        The worker processes of a cluster are limited by their containers, or by
        ``--cores-per-worker``.
        """
        if self.values.get("direct_running_mode") != "multi_processing":
            return None
        return max(1, available_cores() // self.local_processes)

    @property
    def local_processes(self) -> int:
        """The number of worker processes on this machine; Beam takes 0 for one per core."""
        return int(self.values["direct_num_workers"] or available_cores())

    @property
    def job_place(self) -> str | None:
        """Where the runner keeps its jobs; None when they end with their driver."""
        if self.is_local:
            return None
        if "dataflow" in self.values["runner"].lower():
            return f"{DATAFLOW}{self.values.get('project')}/{self.values.get('region')}"
        endpoint: str | None = self.values.get("job_endpoint")
        ends_with_us = endpoint == "embed" or self.values.get("environment_type") == "LOOPBACK"
        return None if ends_with_us else endpoint

    def limit_workers(self, tasks: int) -> tuple[str, ...]:
        """Return the options that limit the workers to the number of tasks.

        A cluster would start all workers, and bill the idle ones.
        """
        if not self.args:
            return ()
        asked = {name: self.values.get(name) for name in ("num_workers", "max_num_workers")}
        if self.on_dataflow and not asked["max_num_workers"]:
            # Dataflow's own limit is hundreds.
            asked["max_num_workers"] = tasks
        return tuple(f"--{name}={min(count, tasks)}" for name, count in asked.items() if count)
