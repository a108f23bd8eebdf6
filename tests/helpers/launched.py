"""Share runs as the arguments files of ``launch/`` define them."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.commands.options import config_of
from pipeline.commands.parser import parse
from pipeline.runners.version import versions
from transforms.targets import ExtractJob, Target

LAUNCH = Path(__file__).parents[2] / "launch"
L4 = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
IMAGE = f"us-central1-docker.pkg.dev/my-project/image-features/gpu:{versions()}"
SHARDS = ["shard-00000", "shard-00001", "shard-00002"]


def arguments(name, *more):
    """Return the run of an arguments file of ``launch/``, in an image of the driver's versions."""
    here = [
        "extract",
        f"@{LAUNCH}/{name}.args",
        "--input",
        "gs://my-bucket/images",
        "--output",
        "gs://my-bucket/out",
    ]
    config = config_of(parse([*here, *more]))
    return replace(config, beam_args=tuple(word.replace("0.1.0-py3.11-beam2.77.0", versions())
                                           for word in config.beam_args))  # fmt: skip


@pytest.fixture
def job():
    started = datetime(2026, 1, 1, tzinfo=UTC)
    return ExtractJob(
        output="gs://my-bucket/out",
        run_id="run-1",
        started_at=started,
        targets=(Target({}, "m", "runs/run-1"),),
    )
