"""The way to Dataflow, up to the service's door: graph, arguments files, and the job as it would be submitted.

Beam's own code makes the description (``dry_run``) and uploads what belongs to it, to a storage emulator.
"""

import ast
import json
import logging
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pipeline.cli import EXIT_USAGE
from pipeline.cluster import at_most, check_cluster, extract_args, parse_accelerator
from pipeline.extraction import extract_shards, extraction
from pipeline.jobs import Submission
from pipeline.listing import list_sources
from pipeline.options import config_of, parse
from pipeline.stall import StallWatch
from pipeline.version import versions
from transforms.errors import UserError
from transforms.extract import ExtractJob
from transforms.storage import open_storage

LAUNCH = Path(__file__).parent.parent / "launch"
L4 = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
IMAGE = f"us-central1-docker.pkg.dev/my-project/image-features/gpu:{versions()}"
SHARDS = ["shard-00000", "shard-00001", "shard-00002"]
SECRETS = ["AKIAEXAMPLEKEYID", "a-secret-access-key", "a-session-token", "MIIEprivatekey", "ya29.a-token"]


def arguments(name, *more):
    """The run that an arguments file of ``launch/`` means, in the image of the driver's own versions."""
    here = ["extract", f"@{LAUNCH}/{name}.args", "--input", "gs://my-bucket/images", "--output", "gs://my-bucket/out"]
    config = config_of(parse([*here, *more]))
    return replace(config, beam_args=tuple(word.replace("0.1.0-py3.11-beam2.77.0", versions())
                                           for word in config.beam_args))  # fmt: skip


@pytest.fixture
def job():
    started = datetime(2026, 1, 1, tzinfo=UTC)
    return ExtractJob(output="gs://my-bucket/out", run_id="run-1", started_at=started, recipe={}, model_id="m")


# The graph


def stages(transform):
    """What Beam's planner fuses: for each stage, its environment's hints and the steps it runs."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    _ = pipeline | "Extract" >> transform
    context, fused = FnApiRunner().create_stages(pipeline.to_runner_api())
    environments = context.components.environments
    return [(dict(environments[s.environment].resource_hints), [t.unique_name for t in s.transforms]) for s in fused]


@pytest.mark.parametrize("accelerator", [None, L4])
def test_the_extraction_is_two_stages_in_one_environment(job, accelerator):
    """Names in, one shuffle of names, and everything from reading to the receipt in one stage."""
    spread, extract = stages(extraction(SHARDS, job, accelerator))
    hints = {"beam:resources:accelerator:v1": accelerator.encode()} if accelerator else {}
    assert (spread[0], extract[0]) == (hints, hints)
    assert any(name.endswith("Shards/Impulse") for name in spread[1])
    assert any(name.endswith("ExtractShards/Extract") for name in extract[1])
    assert [
        name for names in (spread[1], extract[1]) for name in names if "PCollection" in name
    ] == []  # nothing between


def test_a_runner_without_accelerators_passes_the_hint_over(folder, run):
    assert run(folder, accelerator=L4).embedded == 6


# The options


def test_an_accelerator_is_read_as_dataflow_writes_it():
    read = parse_accelerator(L4)
    assert (read.type, read.count, read.machine_type) == ("nvidia-l4", 1, "g2-standard-8")
    assert parse_accelerator("type:nvidia-tesla-t4").count == 1


@pytest.mark.parametrize("wrong", ["nvidia-l4", "", "count:1", "type:nvidia-l4;count:0", "type:nvidia-l4;count:two"])
def test_an_accelerator_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(UserError, match="must be like 'type:nvidia-l4;count:1"):
        parse_accelerator(wrong)


def asked_workers(beam_args):
    from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions

    workers = PipelineOptions(list(beam_args)).view_as(WorkerOptions)
    return workers.num_workers, workers.max_num_workers, workers.machine_type


@pytest.mark.parametrize(
    ("given", "shards", "asked"),
    [
        (["--num_workers=10", "--max_num_workers=20"], 3, (3, 3, None)),
        (["--num_workers=10", "--max_num_workers=20"], 15, (10, 15, None)),
        (["--num_workers=10", "--max_num_workers=20"], 100, (10, 20, None)),
        (["--max_num_workers=20"], 3, (None, 3, None)),
        (["--runner=DataflowRunner"], 3, (None, 3, None)),
        (["--runner=x.DataflowRunner", "--machine_type=n1-standard-2"], 3, (None, 3, "n1-standard-2")),
        (["--runner=PrismRunner"], 3, (None, None, None)),
    ],
)
def test_there_are_never_more_workers_than_shards(given, shards, asked):
    assert asked_workers(at_most(shards, given)) == asked
    assert asked_workers(extract_args(given, L4, shards)) == (*asked[:2], "g2-standard-8")


def test_no_options_stay_no_options():
    assert extract_args((), L4, 3) == ()


@pytest.mark.parametrize("tag", ["latest", "0.1.0", versions().replace("py3", "py2"), f"{versions()}1", ""])
def test_an_image_of_other_versions_is_refused_before_anything_starts(tag, tmp_path, run):
    image = f"host:5000/gpu:{tag}".rstrip(":")
    with pytest.raises(UserError, match=f"does not say that it holds what runs here, {versions()}"):
        run(tmp_path, beam_args=("--runner=DataflowRunner", f"--sdk_container_image={image}"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [IMAGE, f"{IMAGE}-build7", f"host:5000/gpu:{versions()}@sha256:{'0' * 64}"])
def test_an_image_of_the_same_versions_is_taken(image):
    check_cluster([f"--sdk_container_image={image}"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--runner=DataflowRunner"], "DataflowRunner needs --sdk_container_image"),
        (["--s3_secret_access_key=x"], "others can read them"),
        (["--azure_connection_string=x"], "others can read them"),
        (["--dry_run=1"], "--dry-run shows"),
        (["--flexrs_goal=COST_OPTIMIZED"], "use --accelerator"),
        (["--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1"], "use --accelerator"),
    ],
)
def test_what_cannot_work_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        check_cluster(words)


def test_a_driver_without_credentials_is_told_how_to_get_some(folder, run, monkeypatch):
    """Before Beam goes on as nobody. A dry run needs none."""
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    def none(*_, **__):
        raise DefaultCredentialsError("none in the environment")

    monkeypatch.setattr(google.auth, "default", none)
    beam_args = arguments("dataflow_cpu").beam_args
    assert run(folder, beam_args=beam_args, dry_run=True).state == "dry_run"
    with pytest.raises(UserError, match="'gcloud auth application-default login', or start this as a service account"):
        run(folder, beam_args=beam_args)


@pytest.mark.parametrize("name", ["dataflow_cpu", "dataflow_gpu"])
def test_an_arguments_file_passes_all_checks(name):
    config = arguments(name)
    check_cluster(config.beam_args, config.accelerator)
    assert config.accelerator == (L4 if name == "dataflow_gpu" else None)


def test_each_accelerator_of_the_arguments_file_is_one():
    lines = (LAUNCH / "dataflow_gpu.args").read_text().splitlines()
    hints = [line.lstrip("# ").partition("=")[2] for line in lines if "--accelerator=" in line]
    read = [parse_accelerator(hint) for hint in hints]
    assert [(a.type, a.machine_type) for a in read] == [
        ("nvidia-l4", "g2-standard-8"),
        ("nvidia-tesla-t4", "n1-standard-8"),
        ("nvidia-tesla-a100", "a2-highgpu-1g"),
    ]


# The job as it would be submitted


@pytest.fixture
def submitted(monkeypatch, tmp_path):
    """Runs a graph with Beam's dry run; gives its job's description, and the objects uploaded for it, by name."""
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
    environment = dict(zip(names, SECRETS, strict=False)) | {"GOOGLE_APPLICATION_CREDENTIALS": str(key)}
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
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{server._api._httpd.server_port}")

        def submit(start):
            start()
            job = results[-1].job
            client = DataflowApplicationClient(job.options, job.root_staging_location)
            client.create_job_description(job)
            bucket = client._storage_client.bucket("my-bucket")
            objects = {blob.name.rpartition("/")[2]: blob.download_as_bytes() for blob in bucket.list_blobs()}
            return json.loads(job.json()), objects

        yield submit


class DrySubmission(Submission):
    """Beam's dry run has a result without a job, which the real one would note."""

    def run(self, pipeline):
        pipeline.run()


def submission(config):
    watch = StallWatch(open_storage("unused"), "runs/1/listing", 0)
    return DrySubmission(config.beam_args, accelerator=config.accelerator, watch=watch)


def dry(config):
    return replace(config, beam_args=(*config.beam_args, "--dry_run=1"))


def test_the_extraction_on_dataflow_with_gpus(submitted, job):
    from apache_beam.portability.api import beam_runner_api_pb2 as api

    config = dry(arguments("dataflow_gpu"))
    description, objects = submitted(lambda: extract_shards(SHARDS, job, submission(config)))
    environment = description["environment"]
    [pool] = environment["workerPools"]
    assert description["type"] == "JOB_TYPE_BATCH"
    assert environment["serviceAccountEmail"] == "image-features-worker@my-project.iam.gserviceaccount.com"
    assert {sdk["containerImage"] for sdk in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert (pool["machineType"], pool["diskSizeGb"], pool["numWorkers"]) == ("g2-standard-8", 100, 3)
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 3
    assert pool["numThreadsPerWorker"] == 2
    assert pool["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert pool["subnetwork"] == "regions/us-central1/subnetworks/default"
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    assert "use_multiple_sdk_containers" not in environment["experiments"]
    assert environment.get("serviceOptions", []) == []  # worker_accelerator and hints do not go together

    proto = api.Pipeline.FromString(objects["pipeline.pb"])
    steps = [t for t in proto.components.transforms.values() if t.spec.urn == "beam:transform:pardo:v1"]
    hints = [dict(proto.components.environments[step.environment_id].resource_hints) for step in steps]
    assert hints == len(hints) * [{"beam:resources:accelerator:v1": L4.encode()}]  # all of them: no CPU workers besides
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


def test_the_plan_on_dataflow_is_a_job_without_gpus(submitted, tmp_path, monkeypatch):
    config = dry(arguments("dataflow_gpu"))
    monkeypatch.setattr("pipeline.listing.split", lambda source: [source, source])
    listing = ["gs://my-bucket/images"], open_storage(str(tmp_path / "out")), submission(config)
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


# Where the driver lives


def said(words):
    """The run that a driver's words mean, with the arguments file of ``launch/``."""
    words = [word.replace("@/etc/image-features/", f"@{LAUNCH}/") for word in words]
    return config_of(parse(words))


NIGHT = said(["extract", "@/etc/image-features/dataflow_gpu.args", "--input=gs://my-bucket/images",
              "--output=gs://my-bucket/features", "--metrics-json=-"])  # fmt: skip


def test_kubernetes_takes_the_driver_and_runs_the_same_night():
    account, options, cron = yaml.safe_load_all((LAUNCH / "dataflow_cronjob.yaml").read_text())
    for manifest in (account, options, cron):
        kubernetes_validate.validate(manifest, "1.31", strict=True)
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert said(container["args"]) == NIGHT
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    in_file = (LAUNCH / "dataflow_gpu.args").read_text()
    assert shlex.split(options["data"]["dataflow_gpu.args"], comments=True) == shlex.split(in_file, comments=True)
    [rule, _] = cron["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert (rule["onExitCodes"]["values"], rule["onExitCodes"]["containerName"]) == ([EXIT_USAGE], container["name"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def misfits(value, kind, schemas, at=""):
    """What of ``value`` a schema of Google's discovery document does not have, or has as another type."""
    kind = schemas[kind["$ref"]] if "$ref" in kind else kind
    types = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    if not isinstance(value, types[kind["type"]]):
        return [f"{at}: not {kind['type']}"]
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in misfits(item, kind["items"], schemas, f"{at}[{i}]")]
    if isinstance(value, dict):
        known = kind.get("properties", {})
        other = kind.get("additionalProperties")
        unknown = [f"{at}.{name}: unknown" for name in value if name not in known and not other]
        pairs = [(name, item, known.get(name, other)) for name, item in value.items() if name in known or other]
        return unknown + [found for name, item, of in pairs for found in misfits(item, of, schemas, f"{at}.{name}")]
    return []


def test_cloud_run_takes_the_job_and_runs_the_same_night():
    documents = Path(find_spec("googleapiclient").submodule_search_locations[0]) / "discovery_cache/documents"
    schemas = json.loads((documents / "run.v1.json").read_text())["schemas"]
    job = yaml.safe_load((LAUNCH / "dataflow_cloud_run.yaml").read_text())
    assert misfits(job, {"$ref": "Job"}, schemas) == []
    task = job["spec"]["template"]["spec"]["template"]["spec"]
    [container] = task["containers"]
    assert said(container["args"]) == NIGHT
    mounts, [volume] = container["volumeMounts"], task["volumes"]
    assert f"@{mounts[0]['mountPath']}/{volume['secret']['items'][0]['path']}" == container["args"][1]
    task["maxRetry"], container["args"] = 3, "extract"
    found = misfits(job, {"$ref": "Job"}, schemas)
    assert len(found) == 2
    assert any("maxRetry: unknown" in line for line in found)
    assert any("args: not array" in line for line in found)


def test_drivers_run_the_image_of_the_workers_versions():
    tag = "0.1.0-py3.11-beam2.77.0"
    for name in ("dataflow_cronjob.yaml", "dataflow_cloud_run.yaml"):
        images = re.findall(r"\bimage: (\S+)", (LAUNCH / name).read_text())
        assert [image.rpartition("/")[2] for image in images] == [f"cpu:{tag}"]


def test_airflow_runs_the_same_night():
    """By Python's own parser: Airflow does not install beside all the rest."""
    tree = ast.parse((LAUNCH / "dataflow_airflow.py").read_text())
    [command] = [node.value.value for node in tree.body if isinstance(node, ast.Assign)]
    words = shlex.split(command)
    assert words[:2] == ["exec", "/opt/image-features/bin/image-features"]
    assert said(words[2:]) == NIGHT
