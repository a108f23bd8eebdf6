"""Run Beam on this machine, in one process or in several worker processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

from pipeline.runners.local_workers import watch_workers
from pipeline.runners.quiet import quiet_worker
from pipeline.runners.stall import call_into

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult, PipelineRunner


def local_runner(options: PipelineOptions) -> PipelineRunner:
    """Return Beam's local runner, with its worker processes watched."""
    from apache_beam.portability import python_urns
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle
    from apache_beam.runners.runner import PipelineResult, PipelineState

    class LocalRun(PipelineResult):  # type: ignore[misc]
        """The result of a run that starts when it is waited for.

        It ends when ``run`` does, or earlier when a worker process dies.
        """

        def __init__(self, run: Callable[[], Any], end: Future[Any]) -> None:
            super().__init__(PipelineState.RUNNING)
            self._run, self._end = run, end

        def wait_until_finish(self, duration: int | None = None) -> Any:
            work = lambda: self._run().wait_until_finish()  # noqa: E731
            Thread(target=call_into, args=(work, self._end), name="run", daemon=True).start()
            self._state = self._end.result()
            return self._state

    class LocalRunner(fn_runner.FnApiRunner):  # type: ignore[misc]  # Beam has no types
        """Watches worker processes, and quotes the path of their Python.

        Beam 2.77 waits for ever for a worker process that died. It also gives the command unquoted
        to a shell, and waits for ever when the path contains spaces.
        """

        def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> PipelineResult:
            end: Future[Any] = Future()
            # The kind of environment is unique to this run.
            self._watched = f"{python_urns.SUBPROCESS_SDK}:{id(end)}"
            watch_workers(self._watched, end)
            return LocalRun(partial(super().run_pipeline, pipeline, options), end)

        def run_via_runner_api(self, pipeline_proto: Any, options: PipelineOptions) -> Any:
            for environment in pipeline_proto.components.environments.values():
                if environment.urn == python_urns.SUBPROCESS_SDK:
                    environment.urn = self._watched
                    environment.payload = quiet_worker(environment.payload.decode()).encode()
            return super().run_via_runner_api(pipeline_proto, options)

    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return LocalRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))
