"""A job outlives its driver: the next start finds the job that the last one submitted.

The job service is Beam's own, over gRPC, in this process. Like Flink's it keeps jobs that no driver
waits for. Dataflow is replaced by a stand-in for its client and its runner; Beam's own result waits
for the job.
"""

import json
import logging
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult, DataflowRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import dataflow

import transforms.extract
from pipeline import Config, extract
from pipeline.reports.status import status
from pipeline.runners.jobs import Job, find_running
from pipeline.runners.options import RunnerOptions
from pipeline.runners.version import versions
from tests.helpers.runs import read_features
from transforms.errors import RunFailed

# The workers are threads of the service.
WORKER = "--environment_type=beam:env:embedded_python:v1"


@contextmanager
def job_service(port=0):
    """Start a job service, and yield its port."""
    servicer = LocalJobServicer()
    port = servicer.start_grpc_server(port)
    try:
        yield servicer, port
    finally:
        servicer.stop(None)


@pytest.fixture
def service():
    with job_service() as (servicer, port):
        servicer.port = port
        yield servicer


@pytest.fixture
def gate(monkeypatch):
    """Make workers wait before each shard until the gate opens, so that the job keeps running."""
    opened, real = threading.Event(), transforms.extract._extract

    def wait(*arguments):
        assert opened.wait(timeout=60)
        return real(*arguments)

    monkeypatch.setattr(transforms.extract, "_extract", wait)
    yield opened
    opened.set()


@pytest.fixture
def start(folder, tmp_path):
    """Run ``extract`` on the test's images, on a job service."""

    def run(port, **options):
        beam_args = ("--runner=PortableRunner", f"--job_endpoint=localhost:{port}", WORKER)
        beam_args += options.pop("more", ())
        return extract(
            Config(
                (str(folder),), str(tmp_path / "out"), shard_size=3, beam_args=beam_args, **options
            )
        )

    return run


def note(tmp_path):
    [path] = (tmp_path / "out/runs").glob("*/run.json")
    return json.loads(path.read_text())


def extracts(service):
    """Return the service's jobs that extract shards; the others list."""
    names = [
        {t.unique_name for t in job._pipeline_proto.components.transforms.values()}
        for job in service._jobs.values()
    ]
    return [i for i, job in enumerate(names) if "Extract/ExtractShards" in job]


def ended(service, number=-1):
    """Wait until a job has ended, in any state."""
    job = list(service._jobs.values())[extracts(service)[number]]
    job._run_thread.join(timeout=60)
    return job


def test_the_next_start_waits_for_the_job_that_is_at_work(
    start, service, gate, tmp_path, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    assert start(service.port, no_wait=True).state == "submitted"
    job = Job(**note(tmp_path)["job"])
    assert job == Job(f"localhost:{service.port}", list(service._jobs)[-1])
    assert f"job {job}" in str(status(str(tmp_path / "out")))
    assert start(service.port, no_wait=True).state == "submitted"
    assert f"job {job}: running" in caplog.text

    def open_when_found(*arguments):
        found = find_running(*arguments)
        gate.set()
        return found

    monkeypatch.setattr("pipeline.steps.extract.find_running", open_when_found)
    summary = start(service.port)
    assert (summary.state, summary.embedded) == ("published", 6)
    assert len(extracts(service)) == 1
    assert read_features(tmp_path / "out").num_rows == 6
    assert note(tmp_path)["job"]["id"] == job.id


def test_a_job_that_failed_or_left_shards_undone_has_a_successor(
    start, service, tmp_path, monkeypatch
):
    real = transforms.extract._extract

    def second_fails(shard, *rest):
        if shard.endswith("1"):
            raise OSError("No space left on device")
        return real(shard, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(transforms.extract, "_extract", second_fails)
        start(service.port, no_wait=True)
        ended(service)
    assert len(list(tmp_path.glob("out/runs/*/receipts/*"))) == 1
    assert start(service.port).embedded == 6
    assert len(extracts(service)) == 2


def test_a_job_that_is_done_is_published_without_another(start, service, tmp_path):
    start(service.port, no_wait=True)
    ended(service)
    assert start(service.port, no_wait=True).state == "published"
    assert len(extracts(service)) == 1


def test_a_job_that_the_service_does_not_know_has_a_successor(start, tmp_path, monkeypatch, caplog):
    """A restarted service has forgotten the job. The old one may do a shard twice: no harm."""
    caplog.set_level(logging.INFO)
    with job_service() as (first, port), monkeypatch.context() as patch:
        patch.setattr(transforms.extract, "_extract", lambda *_: pytest.fail("not on this one"))
        start(port, no_wait=True)
        ended(first)
    with pytest.raises(
        RunFailed,
        match=rf"the job service at localhost:{port} does not answer, and job \S+ may still be",
    ):
        start(port)
    with job_service() as (other, elsewhere):
        # With other options the job cannot be found.
        assert start(elsewhere, no_wait=True).state == "submitted"
        assert "with these options it cannot be found" in caplog.text
        ended(other)
    with job_service(elsewhere) as (successor, _):
        (tmp_path / "out/runs" / note(tmp_path)["run_id"] / "receipts/shard-00000.json").unlink()
        assert start(elsewhere).state == "published"
        assert "): unknown there" in caplog.text
        assert len(extracts(successor)) == 1


def test_a_job_service_that_is_not_there_is_one_line(start, monkeypatch):
    """Beam would wait for it for five minutes, and then not say so."""
    monkeypatch.setattr("pipeline.runners.jobs._ANSWER_SECONDS", 0.5)
    with job_service() as (_, port):
        pass
    with pytest.raises(
        RunFailed,
        match=rf"the job service at localhost:{port} \(--job_endpoint\) does not answer\.",
    ):
        start(port)


def test_a_job_may_take_longer_than_the_services_timeout(start, service, monkeypatch):
    """Beam gives the stream of states that timeout as its deadline, and the driver failed."""
    real = transforms.extract._extract
    monkeypatch.setattr(
        transforms.extract, "_extract", lambda *rest: threading.Event().wait(1.0) or real(*rest)
    )
    assert start(service.port, more=("--job_server_timeout=1",)).state == "published"


class Dataflow:
    """Stands in for the service: keeps submitted graphs, and runs one when a test asks."""

    def __init__(self):
        self.jobs = {}
        self.graphs = {}

    def submit(self, runner, pipeline, options):
        """Replace ``DataflowRunner.run_pipeline``; a listing is done at once."""
        job = dataflow.Job(id=f"2026-11-25_{len(self.jobs)}", current_state="JOB_STATE_RUNNING")
        self.jobs[job.id], self.graphs[job.id] = job, pipeline
        runner.dataflow_client = self
        if not any("ExtractShards" in name for name in pipeline.applied_labels):
            self.end(job.id)
        return DataflowPipelineResult(job, runner, options)

    def end(self, job_id, state="JOB_STATE_DONE"):
        if state == "JOB_STATE_DONE":
            FnApiRunner().run_pipeline(self.graphs[job_id], PipelineOptions([]))
        self.jobs[job_id].current_state = state

    def get_job(self, job_id):
        if job_id not in self.jobs:
            raise NotFound(job_id)
        return self.jobs[job_id]


@pytest.fixture
def cloud(monkeypatch):
    service = Dataflow()
    monkeypatch.setattr(
        DataflowRunner, "run_pipeline", lambda runner, *graph: service.submit(runner, *graph)
    )
    monkeypatch.setattr(
        "apache_beam.runners.dataflow.internal.apiclient.DataflowApplicationClient",
        lambda _: service,
    )
    # This would look for the bucket and for credentials.
    monkeypatch.setattr(GoogleCloudOptions, "validate", lambda *_: [])
    monkeypatch.setattr("google.auth.default", lambda *_, **__: (AnonymousCredentials(), "p"))
    return service


def test_the_next_start_finds_the_job_on_dataflow(cloud, folder, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    words = [
        "--runner=DataflowRunner",
        "--project=p",
        "--region=europe-west4",
        "--temp_location=gs://b/t",
    ]
    words.append(f"--sdk_container_image=registry/image-features:{versions()}")
    config = Config((str(folder),), str(tmp_path / "out"), beam_args=tuple(words), no_wait=True)

    # The start submits a listing and an extraction.
    assert extract(config).state == "submitted"
    assert note(tmp_path)["job"] == {"place": "Dataflow p/europe-west4", "id": "2026-11-25_1"}
    assert extract(config).state == "submitted"
    assert len(cloud.jobs) == 2

    cloud.end("2026-11-25_1", "JOB_STATE_FAILED")
    assert extract(config).state == "submitted"
    assert note(tmp_path)["job"]["id"] == "2026-11-25_2"

    del cloud.jobs["2026-11-25_2"]
    # The next job must not get the same id.
    cloud.jobs["2026-11-25_2 of another project"] = dataflow.Job()
    assert extract(config).state == "submitted"
    assert note(tmp_path)["job"]["id"] == "2026-11-25_3"
    assert "2026-11-25_2 (Dataflow p/europe-west4): unknown there" in caplog.text

    def end_when_found(*arguments):
        found = find_running(*arguments)
        assert found.job_id() == "2026-11-25_3"
        cloud.end("2026-11-25_3")
        return found

    monkeypatch.setattr("pipeline.steps.extract.find_running", end_when_found)
    assert extract(replace(config, no_wait=False)).state == "published"
    assert read_features(tmp_path / "out").num_rows == 6
    assert len(cloud.jobs) == 4


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("", None),
        ("--runner=DirectRunner --job_endpoint=localhost:8099", None),
        ("--runner=apache_beam.runners.dask.dask_runner.DaskRunner", None),
        # Its job server is a child of the driver.
        ("--runner=FlinkRunner --flink_master=localhost:8081", None),
        ("--runner=FlinkRunner --job_endpoint=localhost:8099", "localhost:8099"),
        ("--runner=PortableRunner --job_endpoint=embed", None),
        ("--runner=PortableRunner --job_endpoint=localhost:8099 --environment_type=LOOPBACK", None),
        (
            "--runner=DataflowRunner --project=p --region=europe-west4 --temp_location=gs://b/t",
            "Dataflow p/europe-west4",
        ),
    ],
)
def test_jobs_outlive_their_driver_where_something_keeps_them(words, place):
    assert RunnerOptions.parse(words.split()).job_place == place
