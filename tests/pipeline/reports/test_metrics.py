"""Check ``--metrics-json``, a line for each run, and ``--metrics-prometheus``, of the last run."""

import json
import resource
from datetime import datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

import pipeline.run
from pipeline import Config, Summary
from pipeline.cli import main
from pipeline.reports.metrics import Metrics
from transforms.errors import Refused, RunFailed, UserError


@pytest.fixture
def night(folder, tmp_path, capsys):
    """Run the command with ``--metrics-json``; return its exit code and the line that it added."""
    file = tmp_path / "metrics.jsonl"

    def start(*words, inputs=folder):
        before = file.read_text() if file.exists() else ""
        words_before = ["--input", str(inputs), "--output", str(tmp_path / "out")]
        code = main(["extract", *words_before, "--metrics-json", str(file), *words])
        capsys.readouterr()
        assert file.read_text().startswith(before)
        [line] = file.read_text()[len(before) :].splitlines()
        return code, json.loads(line)

    return start


def test_each_run_adds_its_line(folder, night, tmp_path):
    (folder / "broken.jpg").write_bytes(b"not an image")
    (folder / "copy.jpg").write_bytes((folder / "coffee.jpg").read_bytes())
    size = sum(path.stat().st_size for path in folder.iterdir())
    code, line = night("--max-failure-rate", "0.5")
    assert code == 0
    counts = {
        "listed": 8,
        "new": 8,
        "changed": 0,
        "unchanged": 0,
        "retried": 0,
        "still_failed": 0,
        "removed": 0,
        "kept": 0,
        "embedded": 6,
        "reused": 1,
        "relabelled": 0,
        "failed": 1,
        "ignored": 0,
        "todo": 0,
        "bytes_read": size,
        "failures_by_kind": {"not_an_image": 1},
        "version": 0,
        "state": "published",
        "error": None,
        "output": str(tmp_path / "out"),
    }
    assert {name: line[name] for name in counts} == counts
    [part] = (tmp_path / "out/features").glob("part-*")
    assert line["bytes_written"] == part.stat().st_size
    assert list(line["seconds"]) == ["plan", "extract", "publish", "total"]
    assert sum(line["seconds"].values()) <= 2.001 * line["seconds"]["total"]
    assert set(line["worker_seconds"]) == {"read", "decode", "reuse", "embed", "write"}
    assert (tmp_path / "out/runs" / line["run_id"] / "run.json").exists()
    code, line = night()
    assert (code, line["state"], line["unchanged"], line["still_failed"]) == (0, "unchanged", 7, 1)
    assert list(line["seconds"]) == ["plan", "total"]
    code, line = night("--dry-run", "--rebuild")
    assert (code, line["state"], line["todo"]) == (0, "dry_run", 8)


def test_a_line_that_finds_no_room_leaves_nothing_and_names_the_file(tmp_path, capsys):
    """The limit on file sizes cuts the line in its middle; the other file is still written."""
    file, textfile = tmp_path / "metrics.jsonl", tmp_path / "metrics.prom"
    file.write_text("{}\n" * 2000)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Metrics("out", str(file), str(textfile)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert (
        capsys.readouterr().err
        == f"image-features: cannot write the metrics to {file}: File too large\n"
    )
    assert "image_features_run_timestamp_seconds" in textfile.read_text()
    with Metrics("out\udc80", str(file)):
        pass
    assert json.loads(file.read_text().splitlines()[-1])["output"] == "out\udc80"


def test_refused_failed_and_mistaken_runs_add_theirs(folder, night, monkeypatch, tmp_path):
    code, line = night("--max-pixels", "9")
    assert (code, line["state"], line["listed"], line["failed"], line["version"]) == (
        1,
        "refused",
        6,
        6,
        None,
    )
    assert line["error"].startswith("6 of 6 images failed (too_many_pixels 6)")
    code, line = night(inputs=tmp_path / "none")
    assert (code, line["state"], line["run_id"]) == (2, "invalid", None)
    assert line["error"].startswith("there is no file or folder")

    def broken(*_):
        raise OSError("the disk is on fire")

    monkeypatch.setattr("transforms.work.load_model", broken)
    code, line = night()
    assert (code, line["state"], line["listed"], line["todo"]) == (1, "failed", 6, 6)
    assert "the disk is on fire" in line["error"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Refused("x"), "refused"),
        (RunFailed("x"), "failed"),
        (UserError("x"), "invalid"),
        (ValueError("x"), "failed"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_every_end_has_a_state(error, state, tmp_path, monkeypatch):
    def end(*_):
        raise error

    monkeypatch.setattr(pipeline.run, "open_session", end)
    file = tmp_path / "metrics.jsonl"
    with pytest.raises(type(error)):
        pipeline.run.extract(Config(inputs=("a",), output="b", metrics_json=str(file)))
    assert json.loads(file.read_text())["state"] == state


def test_on_standard_output_the_line_is_alone(folder, tmp_path, capsys):
    words = [
        "extract",
        "--input",
        str(folder),
        "--output",
        str(tmp_path / "out"),
        "--metrics-json",
        "-",
    ]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["embedded"] == 6
    assert "published version 0" in captured.err


def test_a_file_that_cannot_be_written_is_found_out_before_the_work(folder, tmp_path):
    config = Config(
        inputs=(str(folder),),
        output=str(tmp_path / "out"),
        metrics_json=str(tmp_path / "none/m.jsonl"),
    )
    with pytest.raises(
        UserError, match=r"--metrics-json .*none/m\.jsonl: cannot be written: No such file"
    ):
        pipeline.run.extract(config)
    assert not (tmp_path / "out").exists()


def test_metrics_that_cannot_be_written_at_the_end_do_not_undo_the_run(tmp_path, capsys):
    place = tmp_path / "metrics"
    place.mkdir()
    with Metrics("b", str(place / "m.jsonl")) as metrics:
        metrics.end(Summary("run", state="published"))
        (place / "m.jsonl").unlink()
        place.rmdir()
    assert "cannot write the metrics" in capsys.readouterr().err


def samples(file):
    """Read name and labels, except the output's, → value with the library's own parser."""
    found = {}
    for family in text_string_to_metric_families(file.read_text()):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            word = "".join(value for name, value in sample.labels.items() if name != "output")
            found[sample.name.removeprefix("image_features_"), word] = sample.value
            assert sample.labels["output"] == str(file.parent / "out")
    return found


def test_prometheus_reads_the_last_run(folder, night, tmp_path):
    (folder / "broken.jpg").write_bytes(b"not an image")
    file = tmp_path / "image_features.prom"
    words = ("--metrics-prometheus", str(file))
    code, line = night("--max-failure-rate", "0.5", *words)
    first = samples(file)
    ended = datetime.fromisoformat(line["time"]).timestamp()
    assert (
        first["last_success_timestamp_seconds", ""] == first["run_timestamp_seconds", ""] == ended
    )
    wanted = {"listed": 7, "new": 7, "embedded": 6, "failed": 1, "removed": 0, "unchanged": 0}
    assert {name: first["images", name] for name in wanted} == wanted
    assert first["run_state", "published"] == first["failures", "not_an_image"] == 1
    assert first["bytes", "read"] == line["bytes_read"]
    assert first["stage_seconds", "total"] == line["seconds"]["total"]
    assert ("worker_seconds", "embed") in first
    code, line = night("--rebuild", "--max-pixels", "9", *words)
    second = samples(file)
    assert (code, second["run_state", "refused"]) == (1, 1)
    assert ("run_state", "published") not in second
    assert second["last_success_timestamp_seconds", ""] == ended
    assert second["run_timestamp_seconds", ""] == datetime.fromisoformat(line["time"]).timestamp()
    # The file is written beside its place, and renamed.
    assert [path.name for path in tmp_path.glob("*.prom*")] == [file.name]


def test_a_prometheus_file_of_another_kind_is_written_anew(tmp_path):
    file = tmp_path / "m.prom"
    file.write_bytes(b"{ not \xff metrics")
    with Metrics(str(tmp_path / "out"), None, str(file)) as metrics:
        metrics.end(Summary("run", state="published"))
    assert samples(file)["run_state", "published"] == 1
    with pytest.raises(
        UserError, match=r"--metrics-prometheus .*none/m\.prom: cannot be written: No such file"
    ):
        Metrics("out", None, str(tmp_path / "none/m.prom")).__enter__()


def test_a_device_is_no_prometheus_file(tmp_path):
    """It would be replaced, for all programs of the machine."""
    # If it is replaced, the device stays.
    link = tmp_path / "device"
    link.symlink_to("/dev/null")
    with pytest.raises(UserError, match="device: is no file"), Metrics("out", None, str(link)):
        pass
