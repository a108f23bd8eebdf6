"""A job that makes no progress is abandoned; a slow one is not."""

import threading

import pytest

from pipeline.runners.jobs import Job, Submission
from pipeline.runners.options import RunnerOptions
from pipeline.runners.pipeline import run_failed
from pipeline.runners.stall import Stalled, StallWatch
from transforms.errors import RunFailed
from transforms.storage import open_storage


class Result:
    """A runner's result; its job ends when the test says so."""

    def __init__(self):
        self.end = threading.Event()

    def wait_until_finish(self):
        assert self.end.wait(60)


@pytest.fixture
def result():
    found = Result()
    yield found
    found.end.set()


@pytest.mark.parametrize(
    ("place", "how"),
    [
        (
            "Dataflow project/europe-west1",
            "gcloud dataflow jobs cancel 7 --project project --region europe-west1",
        ),
        ("host:8099", "flink cancel"),
    ],
)
def test_a_job_that_goes_on_without_its_driver_is_named_with_the_way_to_cancel_it(
    tmp_path, result, place, how
):
    watch = StallWatch(open_storage(str(tmp_path)), "runs/1/receipts", 0.2)
    submission = Submission(RunnerOptions(), job=Job(place, "7"), watch=watch)
    with pytest.raises(RunFailed) as failed, run_failed("run 1"):
        submission.wait_for(result)
    line = str(failed.value)
    assert line.startswith(
        "run 1 stalled: nothing new in runs/1/receipts/ for 0.2 s (--stall-timeout); job 7 ("
    )
    assert how in line
    assert "run the same command again" in line


def test_each_new_file_is_a_sign_of_life(tmp_path, result):
    """Three checks fit into the time, and each finds one more file."""
    looks = 0

    class Growing:
        url = str(tmp_path)

        def list(self, prefix):
            nonlocal looks
            looks += 1
            if looks == 12:
                result.end.set()
            return [prefix] * looks

    StallWatch(Growing(), "runs/1/receipts", 0.05).wait(result.wait_until_finish)
    assert looks >= 12


def test_a_storage_that_does_not_answer_is_no_sign_of_life(tmp_path, result):
    class Dead:
        def list(self, prefix):
            raise OSError("no route to host")

    with pytest.raises(Stalled):
        StallWatch(Dead(), "runs/1/receipts", 0.05).wait(result.wait_until_finish)


def test_what_the_job_raises_is_raised(tmp_path):
    def fail():
        raise TimeoutError("the runner's own")

    with pytest.raises(TimeoutError, match="the runner's own"):
        StallWatch(open_storage(str(tmp_path)), "x", 60).wait(fail)
