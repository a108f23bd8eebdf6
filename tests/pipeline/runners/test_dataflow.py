"""Check a Dataflow run as far as the service: the job as it would be submitted.

Beam's own code makes the description (``dry_run``), and uploads its files to a storage emulator.
"""

import json
import logging
from dataclasses import replace

import pytest

from pipeline.runners.jobs import Submission
from pipeline.runners.options import RunnerOptions
from pipeline.runners.stall import StallWatch
from pipeline.runners.version import versions
from pipeline.steps.extract import extract_shards
from pipeline.steps.listing import list_sources
from tests.helpers.launched import IMAGE, L4, SHARDS, arguments
from transforms.sources import parse_input
from transforms.storage import open_storage

SECRETS = [
    "AKIAEXAMPLEKEYID",
    "a-secret-access-key",
    "a-session-token",
    "MIIEprivatekey",
    "ya29.a-token",
]


@pytest.fixture
def submitted(monkeypatch, tmp_path):
    """Run a graph with Beam's dry run; return its job's description and the uploads by name."""
    import google.auth
    from apache_beam.internal.gcp import auth
    from apache_beam.runners.dataflow import dataflow_runner
    from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient
    from gcp_storage_emulator.server import create_server
    from google.auth.credentials import AnonymousCredentials

    class Credentials(AnonymousCredentials):
        token = SECRETS[4]

    key = tmp_path / "key.json"
    key.write_text(json.dumps({"type": "service_account", "private_key": SECRETS[3]}))
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    environment = dict(zip(names, SECRETS, strict=False)) | {
        "GOOGLE_APPLICATION_CREDENTIALS": str(key)
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(google.auth, "default", lambda *_, **__: (Credentials(), "my-project"))
    monkeypatch.setattr(auth._Credentials, "_credentials_init", False)
    monkeypatch.setattr(auth._Credentials, "_credentials", None)
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    results = []
    real = dataflow_runner.DataflowRunner.run_pipeline

    def keep(self, *args, **kwargs):
        results.append(real(self, *args, **kwargs))
        return results[-1]

    monkeypatch.setattr(dataflow_runner.DataflowRunner, "run_pipeline", keep)
    with create_server("localhost", 0, in_memory=True, default_bucket="my-bucket") as server:
        monkeypatch.setenv(
            "STORAGE_EMULATOR_HOST", f"http://localhost:{server._api._httpd.server_port}"
        )

        def submit(start):
            start()
            job = results[-1].job
            client = DataflowApplicationClient(job.options, job.root_staging_location)
            client.create_job_description(job)
            bucket = client._storage_client.bucket("my-bucket")
            objects = {
                blob.name.rpartition("/")[2]: blob.download_as_bytes()
                for blob in bucket.list_blobs()
            }
            return json.loads(job.json()), objects

        yield submit


class DrySubmission(Submission):
    """Submit without noting a job: the result of Beam's dry run has none."""

    def run(self, pipeline):
        pipeline.run()


def submission(config):
    watch = StallWatch(open_storage("unused"), "runs/1/listing", 0)
    return DrySubmission(
        RunnerOptions.parse(config.beam_args), accelerator=config.accelerator, watch=watch
    )


def dry(config):
    return replace(config, beam_args=(*config.beam_args, "--dry_run=1"))


def test_the_extraction_on_dataflow_with_gpus(submitted, job):
    from apache_beam.portability.api import beam_runner_api_pb2 as api

    config = dry(arguments("dataflow_gpu"))
    description, objects = submitted(lambda: extract_shards(SHARDS, job, submission(config)))
    environment = description["environment"]
    [pool] = environment["workerPools"]
    assert description["type"] == "JOB_TYPE_BATCH"
    assert (
        environment["serviceAccountEmail"]
        == "image-features-worker@my-project.iam.gserviceaccount.com"
    )
    assert {sdk["containerImage"] for sdk in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert (pool["machineType"], pool["diskSizeGb"], pool["numWorkers"]) == (
        "g2-standard-8",
        100,
        3,
    )
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 3
    assert pool["numThreadsPerWorker"] == 2
    assert pool["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert pool["subnetwork"] == "regions/us-central1/subnetworks/default"
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    assert "use_multiple_sdk_containers" not in environment["experiments"]
    # worker_accelerator and hints do not go together.
    assert environment.get("serviceOptions", []) == []

    proto = api.Pipeline.FromString(objects["pipeline.pb"])
    steps = [
        t for t in proto.components.transforms.values() if t.spec.urn == "beam:transform:pardo:v1"
    ]
    hints = [
        dict(proto.components.environments[step.environment_id].resource_hints) for step in steps
    ]
    # All steps have the hint, so no CPU workers start.
    assert hints == len(hints) * [{"beam:resources:accelerator:v1": L4.encode()}]
    assert any(step.unique_name == "Extract/ExtractShards/Extract" for step in steps)
    # Nothing is installed when a worker starts: no package, no requirements, no main session.
    assert set(objects) == {"pipeline.pb", "submission_environment_dependencies.txt"}


def test_the_extraction_on_dataflow_without_gpus(submitted, job):
    config = dry(arguments("dataflow_cpu"))
    description, objects = submitted(lambda: extract_shards(SHARDS, job, submission(config)))
    [pool] = description["environment"]["workerPools"]
    assert (pool["machineType"], pool["diskSizeGb"], pool["numWorkers"]) == ("n2-standard-8", 50, 3)
    assert pool["workerHarnessContainerImage"].endswith(f"/cpu:{versions()}")
    assert b"beam:resources:accelerator" not in objects["pipeline.pb"]


def test_the_extraction_on_dataflow_with_tpus(submitted, job):
    config = dry(arguments("dataflow_tpu"))
    assert (config.engine, config.require_accelerator) == ("xla", True)
    description, objects = submitted(lambda: extract_shards(SHARDS, job, submission(config)))
    [pool] = description["environment"]["workerPools"]
    assert pool["machineType"] == "ct5lp-hightpu-1t"
    assert pool["workerHarnessContainerImage"].endswith(f"/tpu:{versions()}")
    assert description["environment"]["serviceOptions"] == [
        "worker_accelerator=type:tpu-v5-lite-podslice;topology:1x1"
    ]
    assert b"beam:resources:accelerator" not in objects["pipeline.pb"]


def test_the_plan_on_dataflow_is_a_job_without_gpus(submitted, tmp_path, monkeypatch):
    config = dry(arguments("dataflow_gpu"))
    monkeypatch.setattr("transforms.sources.named.Named.split", lambda source: [source, source])
    listing = (
        [parse_input("gs://my-bucket/images")],
        open_storage(str(tmp_path / "out")),
        submission(config),
    )
    description, objects = submitted(lambda: list_sources(*listing).__enter__())
    [pool] = description["environment"]["workerPools"]
    assert pool["machineType"] == "n1-standard-2"
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 2
    assert b"nvidia" not in objects["pipeline.pb"]
    assert "nvidia" not in json.dumps(description)


def test_no_secret_leaves_the_driver(submitted, job):
    config = dry(arguments("dataflow_gpu"))
    description, objects = submitted(lambda: extract_shards(SHARDS, job, submission(config)))
    sent = json.dumps(description).encode() + b"".join(objects.values())
    assert b"my-project" in sent
    assert [secret for secret in SECRETS if secret.encode() in sent] == []
