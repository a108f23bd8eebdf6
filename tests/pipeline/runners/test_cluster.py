"""Check what is decided before a cluster is asked: the graph, the options, what cannot work."""

import pytest

from pipeline.runners.cluster import check_cluster, extract_args, parse_accelerator
from pipeline.runners.options import RunnerOptions
from pipeline.runners.version import versions
from pipeline.steps.extract import extraction
from tests.helpers.launched import IMAGE, L4, LAUNCH, SHARDS, arguments
from transforms.errors import UserError

# The graph.


def stages(transform):
    """Return the hints and the steps of each stage that Beam's planner fuses."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    _ = pipeline | "Extract" >> transform
    context, fused = FnApiRunner().create_stages(pipeline.to_runner_api())
    environments = context.components.environments
    return [
        (dict(environments[s.environment].resource_hints), [t.unique_name for t in s.transforms])
        for s in fused
    ]


@pytest.mark.parametrize("accelerator", [None, L4])
def test_the_extraction_is_two_stages_in_one_environment(job, accelerator):
    """One stage shuffles names; one does everything from reading to the receipt."""
    spread, extract = stages(extraction(SHARDS, job, accelerator))
    hints = {"beam:resources:accelerator:v1": accelerator.encode()} if accelerator else {}
    assert (spread[0], extract[0]) == (hints, hints)
    assert any(name.endswith("Shards/Impulse") for name in spread[1])
    assert any(name.endswith("ExtractShards/Extract") for name in extract[1])
    # Nothing lies between the two stages.
    names = [name for stage in (spread[1], extract[1]) for name in stage]
    assert [name for name in names if "PCollection" in name] == []


def test_a_runner_without_accelerators_passes_the_hint_over(folder, run):
    assert run(folder, accelerator=L4).embedded == 6


# The options.


def test_an_accelerator_is_read_as_dataflow_writes_it():
    read = parse_accelerator(L4)
    assert (read.type, read.count, read.machine_type) == ("nvidia-l4", 1, "g2-standard-8")
    assert parse_accelerator("type:nvidia-tesla-t4").count == 1


@pytest.mark.parametrize(
    "wrong", ["nvidia-l4", "", "count:1", "type:nvidia-l4;count:0", "type:nvidia-l4;count:two"]
)
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
        (
            ["--runner=apache_beam.runners.DataflowRunner", "--machine_type=n1-standard-2"],
            3,
            (None, 3, "n1-standard-2"),
        ),
        (["--runner=PrismRunner"], 3, (None, None, None)),
    ],
)
def test_there_are_never_more_workers_than_shards(given, shards, asked):
    assert asked_workers((*given, *RunnerOptions.parse(given).limit_workers(shards))) == asked
    assert asked_workers((*given, *extract_args(RunnerOptions.parse(given), L4, shards))) == (
        *asked[:2],
        "g2-standard-8",
    )


def test_no_options_stay_no_options():
    assert extract_args(RunnerOptions(), L4, 3) == ()


@pytest.mark.parametrize(
    "tag", ["latest", "0.1.0", versions().replace("py3", "py2"), f"{versions()}1", ""]
)
def test_an_image_of_other_versions_is_refused_before_anything_starts(tag, tmp_path, run):
    image = f"host:5000/gpu:{tag}".rstrip(":")
    with pytest.raises(UserError, match=f"does not say that it holds what runs here, {versions()}"):
        run(tmp_path, beam_args=("--runner=DataflowRunner", f"--sdk_container_image={image}"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "image", [IMAGE, f"{IMAGE}-build7", f"host:5000/gpu:{versions()}@sha256:{'0' * 64}"]
)
def test_an_image_of_the_same_versions_is_taken(image):
    check_cluster(RunnerOptions.parse([f"--sdk_container_image={image}"]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--runner=DataflowRunner"], "DataflowRunner needs --sdk_container_image"),
        (["--s3_secret_access_key=x"], "others can read them"),
        (["--azure_connection_string=x"], "others can read them"),
        (["--dry_run=1"], "--dry-run shows"),
        (["--flexrs_goal=COST_OPTIMIZED"], "use --accelerator"),
        (
            ["--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1"],
            "use --accelerator",
        ),
    ],
)
def test_what_cannot_work_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        check_cluster(RunnerOptions.parse(words))


def test_tpus_are_for_all_workers_and_do_not_go_with_a_hint():
    runner = RunnerOptions.parse(arguments("dataflow_tpu").beam_args)
    check_cluster(runner)
    with pytest.raises(UserError, match="do not go with resource hints"):
        check_cluster(runner, L4)


def test_a_driver_without_credentials_is_told_how_to_get_some(folder, run, monkeypatch):
    """The message comes before Beam goes on without credentials. A dry run needs none."""
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    def none(*_, **__):
        raise DefaultCredentialsError("none in the environment")

    monkeypatch.setattr(google.auth, "default", none)
    beam_args = arguments("dataflow_cpu").beam_args
    assert run(folder, beam_args=beam_args, dry_run=True).state == "dry_run"
    with pytest.raises(
        UserError,
        match="'gcloud auth application-default login', or start this as a service account",
    ):
        run(folder, beam_args=beam_args)


@pytest.mark.parametrize("name", ["dataflow_cpu", "dataflow_gpu", "dataflow_tpu"])
def test_an_arguments_file_passes_all_checks(name):
    config = arguments(name)
    check_cluster(RunnerOptions.parse(config.beam_args), config.accelerator)
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
