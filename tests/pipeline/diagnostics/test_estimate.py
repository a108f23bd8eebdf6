"""Check the images, requests, hours and dollars of ``--dry-run`` against numbers by hand."""

import logging

import pytest
from apache_beam.testing.load_tests import dataflow_cost_consts as beams

from pipeline.cli import main
from pipeline.config import Config
from pipeline.diagnostics import estimate as estimates
from pipeline.diagnostics import prices
from pipeline.diagnostics.estimate import Work, _seconds, _time
from pipeline.runners.options import RunnerOptions
from tests.helpers.launched import arguments
from tests.helpers.runs import make_folder

NIGHT = Work(images=100_000, shards=49, bytes=13_000_000_000, listed=1_200_300, remote=True)


def estimate(work, config):
    return estimates.estimate(work, config, RunnerOptions.parse(config.beam_args))


def test_the_prices_are_those_of_beams_own_table():
    assert prices.VCPU_HOUR == beams.VCPU_PER_HR_BATCH
    assert prices.MEMORY_GB_HOUR == beams.MEM_PER_GB_HR_BATCH
    assert prices.DISK_GB_HOUR == beams.PD_PER_GB_HR
    assert {name: gpu.dollars_hour for name, gpu in prices.GPUS.items()} == {
        "nvidia-tesla-t4": beams.T4_PER_GPU_PER_HOUR,
        "nvidia-l4": beams.L4_PER_GPU_PER_HOUR,
        "nvidia-tesla-a100": beams.A100_40GB_PER_GPU_PER_HOUR,
    }


def test_a_night_on_gpus():
    """Images of 130 kB and ResNet50 on an L4.

    Decoding takes 0.4 + 2.158 ms of a core, on 8 vCPUs × 0.62. 2 shards read 64 images each in
    50 ms.
    """
    night = estimate(
        NIGHT, arguments("dataflow_gpu", "--backbone", "ResNet50", "--precision", "float16")
    )
    assert night.workers == 8
    assert night.rates == pytest.approx({"decode": 4.96 / 0.002558, "model": 2700, "network": 2560})
    assert night.rate == night.rates["decode"]
    # 8 × 1,939 is more than a bucket gives at once.
    assert night.bound == "bucket"
    assert night.requests_dollars == pytest.approx(0.1 * 0.40 + 1201 * 5e-6)
    hour = 8 * 0.056 + 32 * 0.003557 + 100 * 0.000054 + 0.672
    assert night.worker.dollars_hour == pytest.approx(hour)
    assert night.dollars == pytest.approx(8 * night.hours * hour + night.requests_dollars)
    # The limit of 5,000/s doubles in 1,200 s: 100,000 images after 19.9 s, and six minutes before
    # the first.
    assert night.hours * 3600 == pytest.approx(360 + 19.89, abs=0.01)


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        (["--num_workers=1", "--max_num_workers=1", "--precision=float16"], "decode"),
        (["--num_workers=1", "--max_num_workers=1", "--backbone=VGG16"], "model"),
        (
            ["--num_workers=1", "--max_num_workers=1", "--number_of_worker_harness_threads=1"],
            "network",
        ),
        ([], "bucket"),
    ],
)
def test_what_would_bind_is_said(options, bound):
    night = estimate(NIGHT, arguments("dataflow_gpu", *options))
    assert night.bound == bound
    assert f": {bound}-bound" in str(night)


def test_on_a_cpu_decoding_and_the_model_take_turns():
    night = estimate(NIGHT, arguments("dataflow_cpu", "--backbone", "ResNet50"))
    assert night.rates["model"] == 4 * 15
    assert night.rate == pytest.approx(1 / (1 / night.rates["decode"] + 1 / night.rates["model"]))
    larger = estimate(
        NIGHT, arguments("dataflow_cpu", "--backbone", "ResNet50", "--input-size", "448")
    )
    assert larger.rates["model"] == 15


def test_a_bucket_warms_up():
    """Compare the closed form with a sum over seconds."""
    got, seconds = 0.0, 0
    while got < 50e6:
        got += min(40_000, 5_000 * 2 ** ((seconds + 0.5) / 1200))
        seconds += 1
    assert _seconds(50_000_000, 40_000, 5_000) == pytest.approx(seconds, abs=1)
    assert _seconds(50_000_000, 4_000, 5_000) == 12_500
    assert _seconds(50_000_000, 40_000, None) == 1_250


def test_few_shards_are_few_workers():
    small = Work(images=100, shards=2, bytes=13_000_000, listed=100, remote=True)
    assert estimate(small, arguments("dataflow_gpu")).workers == 2


def test_what_the_table_lacks_is_said():
    unknown = estimate(NIGHT, arguments("dataflow_gpu", "--backbone", "DenseNet121"))
    assert "model" not in unknown.rates
    assert "the model's rate is not known, so it may take longer" in str(unknown)
    other = estimate(NIGHT, arguments("dataflow_cpu", "--machine_type=h9-standard-8"))
    assert other.dollars is None
    assert "h9-standard-8 (not in the table" in str(other)
    assert "for $0.05 of requests (prices of" in str(other)


def test_a_local_run_costs_nothing():
    local = estimate(
        Work(1000, 1, 55_000_000, 1000, remote=False), Config(inputs=("x",), output="y")
    )
    assert (local.dollars, local.requests_dollars) == (None, 0)
    assert set(local.rates) == {"decode", "model"}
    assert "$" not in str(local)


@pytest.mark.parametrize("runner", ["local", "dataflow_gpu"])
def test_the_dry_run_prints_it_and_starts_nothing(runner, photos, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("apache_beam.Pipeline.run", lambda *_: pytest.fail("a runner was started"))
    caplog.set_level(logging.INFO, "pipeline")
    folder = make_folder(tmp_path / "images", photos)
    config = arguments(runner) if runner != "local" else None
    more = list(config.beam_args) if config else []
    more += ["--accelerator", config.accelerator] if config else []
    assert (
        main(
            [
                "extract",
                "--input",
                str(folder),
                "--output",
                str(tmp_path / "out"),
                "--dry-run",
                *more,
            ]
        )
        == 0
    )
    said = caplog.text
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert f"would do 6 images in 1 shards, {size / 1000:.1f} KB to read" in said
    assert (
        "with 1 × g2-standard-8 with 1 nvidia-l4, " if config else "with 1 × a worker of "
    ) in said
    assert not (tmp_path / "out").exists()


def test_the_dry_run_counts_requests_of_a_bucket(s3, photos, caplog, tmp_path):
    caplog.set_level(logging.INFO, "pipeline")
    for path in make_folder(tmp_path / "images", photos).iterdir():
        s3.put(f"images/{path.name}", path.read_bytes())
    assert (
        main(["extract", "--input", f"{s3.url}/images", "--output", f"{s3.url}/out", "--dry-run"])
        == 0
    )
    said = caplog.text
    assert " to read: 6 GET and 1 LIST requests\n" in said
    assert "for $0.00 of requests" in said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 second"),
        (8.1, "9 seconds"),
        (119, "119 seconds"),
        (121, "3 minutes"),
        (3500, "59 minutes"),
        (5400, "1.5 hours"),
    ],
)
def test_a_short_run_is_told_in_seconds(seconds, text):
    assert _time(seconds / 3600) == text
