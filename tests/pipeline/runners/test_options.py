"""Check what one parse of Beam's options says about the runner."""

import json
import subprocess
import sys

import pytest

from pipeline.runners.options import RunnerOptions
from transforms.engines.base import available_cores
from transforms.errors import UserError

DATAFLOW = ("--runner=DataflowRunner", "--project=p", "--region=r", "--num_workers=3")


@pytest.mark.parametrize(
    ("args", "local", "on_dataflow", "workers", "place"),
    [
        ((), True, False, 1, None),
        (("--runner=DirectRunner", "--direct_num_workers=4"), True, False, 4, None),
        (DATAFLOW, False, True, 3, "Dataflow p/r"),
        (
            ("--runner=FlinkRunner", "--parallelism=8", "--job_endpoint=h:8099"),
            False,
            False,
            8,
            "h:8099",
        ),
        (("--runner=PortableRunner", "--job_endpoint=embed"), False, False, 1, None),
    ],
)
def test_one_parse_says_which_runner_how_many_workers_and_where(
    args, local, on_dataflow, workers, place
):
    runner = RunnerOptions.parse(args)
    assert (runner.is_local, runner.on_dataflow, runner.workers) == (local, on_dataflow, workers)
    assert runner.job_place == place


def test_an_invalid_option_is_a_mistake_of_the_user_and_has_its_line_of_metrics(run, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    with pytest.raises(UserError, match="cannot read the Beam options --num_workers=abc"):
        run(tmp_path, beam_args=("--num_workers=abc",), metrics_json=str(metrics))
    assert json.loads(metrics.read_text())["state"] == "invalid"


def test_local_processes_share_the_cores():
    args = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    assert RunnerOptions.parse(args).cores_per_worker == max(1, available_cores() // 2)
    assert RunnerOptions.parse(args[:1]).cores_per_worker is None


def test_no_options_need_no_beam():
    code = "import sys; from pipeline.runners.options import RunnerOptions as R; r = R.parse(()); "
    code += "r.workers, r.is_local, r.job_place, r.limit_workers(3); "
    code += "sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_run_parses_them_once(run, folder, tmp_path, monkeypatch):
    parsed, real = [], RunnerOptions.parse.__func__
    parse = classmethod(lambda cls, args: (parsed.append(args), real(cls, args))[1])
    monkeypatch.setattr(RunnerOptions, "parse", parse)
    options = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    assert run(folder, tmp_path / "out", beam_args=options).published
    assert parsed == [options]
