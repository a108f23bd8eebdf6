"""Submit jobs, and find again those that outlive their driver.

Two kinds of service keep jobs: Dataflow, and a job service at ``--job_endpoint`` (that of Flink,
Spark or Prism, when it was started on its own). ``run.json`` notes such a job for the next start.
A job that the driver itself runs, or whose service it starts, ends with the driver.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.runners.options import DATAFLOW, RunnerOptions
from pipeline.runners.stall import Stalled, StallWatch

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult

Item = TypeVar("Item")
Work = TypeVar("Work")
_LOG = logging.getLogger(__name__)
# A job service that is there answers at once.
_ANSWER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a runner, as ``run.json`` notes it."""

    # "Dataflow PROJECT/REGION", or a job service's HOST:PORT
    place: str
    id: str

    def __str__(self) -> str:
        return f"{self.id} ({self.place})"

    @property
    def cancel(self) -> str:
        """The command or the place to cancel it."""
        if not self.place.startswith(DATAFLOW):
            return "with the tools of its runner, for Flink 'flink cancel' or the web page"
        project, _, region = self.place.removeprefix(DATAFLOW).partition("/")
        return f"gcloud dataflow jobs cancel {self.id} --project {project} --region {region}"


@dataclass(slots=True)
class Submission:
    """Submits a graph to the runner.

    Calls ``noted`` with the job as soon as the job exists, if a later start can find it again.
    """

    runner: RunnerOptions
    noted: Callable[[Job], None] = lambda _: None
    wait: bool = True
    accelerator: str | None = None  # of the workers
    job: Job | None = None
    watch: StallWatch = field(kw_only=True)  # ends the wait for a stalled job

    def do_here(
        self, function: Callable[[Item, Work], object], items: Sequence[Item], work: Work
    ) -> None:
        """Do the work on each item in this process, without a runner.

        Two items are in work at once: one computes while the other reads or writes.

        Raises whatever ``function`` raises, at the first item that fails.

        Raises:
            Stalled: The work makes no progress any more.
        """

        def do_all() -> None:
            pool = ThreadPoolExecutor(2, thread_name_prefix="work")
            try:
                for _ in pool.map(function, items, repeat(work)):
                    pass
            finally:
                pool.shutdown(cancel_futures=True)

        self.watch.wait(do_all)

    def run(self, pipeline: beam.Pipeline) -> None:
        """Submit a graph, and wait for its end if ``wait`` is set.

        Raises:
            ConnectionError: The job service does not answer.
            Stalled: The job makes no progress any more.
        """
        from apache_beam.utils.subprocess_server import SubprocessServer

        place = self.runner.job_place
        if place and not place.startswith(DATAFLOW):
            _check_answers(place)
        with SubprocessServer.cache_subprocesses():
            # Like `with pipeline`, the block ends a server that Beam itself started.
            result = pipeline.run()
            self.job = Job(place, _id_of(result)) if place else None
            if self.job:
                self.noted(self.job)
                _LOG.info("submitted job %s", self.job)
            if self.wait:
                self.wait_for(_without_deadline(result))

    def wait_for(self, result: PipelineResult) -> None:
        """Wait for the end of a job that was submitted here or found again.

        Raises whatever the runner raises.

        Raises:
            Stalled: The job makes no progress any more.
        """
        try:
            self.watch.wait(result.wait_until_finish)
        except Stalled as stall:
            if self.job is None:
                raise
            raise Stalled(
                f"{stall}; job {self.job} is still there: cancel it ({self.job.cancel})"
            ) from stall


def find_running(job: Job, runner: RunnerOptions) -> PipelineResult | None:
    """Find the job that an earlier start noted.

    Returns:
        A result to wait for; None when the job has ended or is unknown.

    Raises:
        ConnectionError: The job service does not answer. The job may still be running.
    """
    if job.place != runner.job_place:
        _LOG.warning(
            "job %s may still be running; with these options it cannot be found, so this run does "
            "not wait for it",
            job,
        )
        return None
    find = _find_on_dataflow if job.place.startswith(DATAFLOW) else _find_at_job_service
    result = find(job, runner.for_beam())
    state = result.state if result else "unknown there"
    _LOG.info("job %s: %s", job, state.lower())
    return None if result is None or _has_ended(state) else result


def _has_ended(state: str) -> bool:
    from apache_beam.runners.runner import PipelineState

    return bool(PipelineState.is_terminal(state))


def _id_of(result: Any) -> str:
    """Return a job's id: Dataflow has a method for it, a job service an attribute (Beam 2.77)."""
    return str(result.job_id() if hasattr(result, "job_id") else result._job_id)


def _find_on_dataflow(job: Job, options: PipelineOptions) -> PipelineResult | None:
    from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult, DataflowRunner
    from apache_beam.runners.dataflow.internal import apiclient
    from google.api_core.exceptions import NotFound

    runner = DataflowRunner()
    runner.dataflow_client = apiclient.DataflowApplicationClient(options)
    try:
        # The client retries a "not found" for up to ten minutes.
        found = runner.dataflow_client.get_job(job.id)
    except NotFound:
        return None
    return DataflowPipelineResult(found, runner, options)


def _find_at_job_service(job: Job, options: PipelineOptions) -> PipelineResult | None:
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    # Beam's own client uses no TLS either.
    service = beam_job_api_pb2_grpc.JobServiceStub(grpc.insecure_channel(job.place))
    try:
        service.GetState(
            beam_job_api_pb2.GetJobStateRequest(job_id=job.id), timeout=_ANSWER_SECONDS
        )
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise ConnectionError(
                f"the job service at {job.place} does not answer, and job {job.id} may still be "
                "running there"
            ) from error
        # Each service has its own code for an unknown job.
        return None
    return _attach(service, job.id)


def _check_answers(place: str) -> None:
    """Raise ``ConnectionError`` when no job service answers.

    Beam would silently wait for it for five minutes.
    """
    import grpc

    with grpc.insecure_channel(place) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            raise ConnectionError(
                f"the job service at {place} (--job_endpoint) does not answer"
            ) from None


def _attach(
    service: Any, job_id: str, cleanup: Sequence[Callable[[], None]] = ()
) -> PipelineResult:
    """Return a result to wait for; its streams replay past events and have no deadline."""
    from apache_beam.portability.api import beam_job_api_pb2
    from apache_beam.runners.portability import portable_runner

    states = service.GetStateStream(beam_job_api_pb2.GetJobStateRequest(job_id=job_id))
    messages = service.GetMessageStream(beam_job_api_pb2.JobMessagesRequest(job_id=job_id))
    return portable_runner.PipelineResult(service, job_id, messages, states, cleanup)


def _without_deadline(result: PipelineResult) -> PipelineResult:
    """Return a job service's result with streams that have no deadline.

    Beam 2.77 gives its streams the deadline ``--job_server_timeout`` where a service (Prism's) lets
    it ask before the job runs. A job that took longer than those 300 s failed with "Deadline
    Exceeded".
    """
    from apache_beam.runners.portability import portable_runner

    if not isinstance(result, portable_runner.PipelineResult):
        return result
    return _attach(result._job_service, result._job_id, result._cleanup_callbacks)
