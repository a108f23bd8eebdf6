"""Train a head on stored vectors: what it says, what it saves, and what it refuses."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.tables import Tables
from pipeline.training import train as training
from pipeline.training import vectors as vectors_module
from pipeline.training.examples import read_examples
from pipeline.training.save import write_together
from pipeline.training.unfreeze.start import head_labels
from pipeline.training.vectors import collect
from tests.helpers.runs import read_features, vectors
from transforms.backbones.head import load_head
from transforms.backbones.spec import file_sha256
from transforms.errors import UserError
from transforms.storage import open_storage

LABELS = ["astronaut", "camera", "chelsea", "coffee", "motorcycle_left", "rocket"]


def brief(output, path):
    """Return options of a training that is not meant to learn much."""
    options = training.FitOptions(epochs=1)
    return training.TrainOptions(str(output), "folder", str(path), fit=options)


@pytest.fixture(scope="module")
def trained(crops_output, tmp_path_factory):
    """Train one head for several tests."""
    path = tmp_path_factory.mktemp("trained") / "head.keras"
    lines = []
    done = training.train_head(
        training.TrainOptions(str(crops_output), "folder", str(path)), lines.append
    )
    return done, "\n".join(lines)


def test_a_head_learns_a_real_task(trained):
    done, said = trained
    assert sum(done.rows) == 300
    assert done.evaluation.accuracy >= 0.95
    assert done.baselines.largest < 0.5
    assert "epoch 1/50 loss " in said
    assert " val_accuracy " in said
    losses = [line["loss"] for line in done.history]
    assert losses[-1] < losses[0] / 2
    assert "test of " in said
    assert "nearest neighbours" in said


def test_all_files_of_a_head_agree(trained):
    done, _ = trained
    facts = json.loads(done.path.with_suffix(".json").read_text())
    assert facts["labels"] == LABELS
    assert facts["sha256"] == file_sha256(done.path)
    assert facts["training"]["metrics"]["accuracy"] == done.evaluation.accuracy
    with (done.path.parent / "head-training.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["epoch"]) for line in lines] == list(range(1, len(done.history) + 1))
    page = (done.path.parent / "head-report.html").read_text()
    assert page.count("<polyline") == 4
    assert page.count("<rect") == 36
    assert "<script" not in page


def test_the_saved_head_gives_the_calibrated_scores(trained, crops_output):
    done, _ = trained
    rows = read_features(crops_output)
    head = load_head(done.path, 1280, 6)
    scores = head.predict_on_batch(vectors(rows))
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    true = [LABELS.index(Path(uri).parent.name) for uri in rows["uri"].to_pylist()]
    assert (scores.argmax(1) == true).mean() >= 0.95


def test_the_same_command_gives_the_same_head(crops_output, tmp_path, capsys):
    words = ["train", str(crops_output), "--labels", "folder", "--epochs", "2"]
    for name, seed in (("one", "0"), ("again", "0"), ("other", "1")):
        assert main([*words, "--save", str(tmp_path / f"{name}.keras"), "--seed", seed]) == 0
    one, again, other = (file_sha256(tmp_path / f"{n}.keras") for n in ("one", "again", "other"))
    assert one == again != other
    assert "Warning" not in capsys.readouterr().err


def test_many_vectors_go_through_files_and_each_comes_once(crops_output, monkeypatch):
    features = Tables.published(open_storage(str(crops_output))).features
    examples = read_examples(features, "folder")
    known = {row["uri"]: row["embedding"] for row in read_features(crops_output).to_pylist()}
    monkeypatch.setattr(vectors_module, "MEMORY_BYTES", 0)
    monkeypatch.setattr(vectors_module, "FILE_BYTES", 1 << 18)
    with collect(features, examples) as data:
        assert data.on_disk
        assert len(data.sides["train"].chunks) > 3
        every = []
        for side in ("train", "validation", "test"):
            own = [[], []]
            for epoch, seen in enumerate(own):
                for numbers, rows in data.sides[side].batches(16, (0, epoch)):
                    seen += rows.tolist()
                    assert numbers[0].tolist() == known[examples.rows["uri"][int(rows[0])].as_py()]
            assert sorted(own[0]) == sorted(own[1]) == examples.numbers(side).tolist()
            assert side != "train" or own[0] != own[1]
            every += own[0]
        assert sorted(every) == list(range(300))
        stacked = np.array([known[uri] for uri in examples.rows["uri"].to_pylist()], np.float64)
        chosen = stacked[examples.numbers("train")]
        np.testing.assert_allclose(data.mean, chosen.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(data.variance, chosen.var(0), rtol=1e-3, atol=1e-5)


def test_equal_bytes_are_on_one_side_and_rows_without_labels_are_counted(crops_output):
    features = Tables.published(open_storage(str(crops_output))).features
    rows = features.read(["uri", "content_sha256"])
    first = rows["uri"][0].as_py()
    path = crops_output.parent / "labels.csv"
    uris = rows["uri"].to_pylist()
    lines = [f"{uri},{Path(uri).parent.name}" for uri in uris if uri != first]
    path.write_text("uri,label\n" + "\n".join(lines) + "\n")
    examples = read_examples(features, f"csv:{path}")
    assert examples.unlabelled == 1
    assert (examples.sides >= 0).sum() == 299
    again = read_examples(features, "folder")
    assert (examples.sides[examples.sides >= 0] == again.sides[examples.sides >= 0]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "column:kind"], "the table carries no such column"),
        (["--labels", "csv:/nowhere.csv"], "cannot be read"),
        (["--labels", "words"], "must be folder, column:NAME or csv:FILE"),
        (["--labels", "folder", "--split-column", "fold"], "--split-column fold: the table"),
        (["--labels", "folder", "--epochs", "0"], "must be at least 1"),
        (["--labels", "folder", "--table", "x"], "no run has published a table features-x"),
    ],
)
def test_a_mistake_is_one_clear_line(crops_output, tmp_path, capsys, words, message):
    assert main(["train", str(crops_output), *words, "--save", str(tmp_path / "h.keras")]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "h.keras").exists()


@pytest.mark.parametrize(
    ("save", "message"),
    [("head.h5", "ends in .keras"), ("s3://b/head.keras", "not in a bucket")],
)
def test_a_head_goes_into_a_keras_file_here(crops_output, capsys, save, message):
    assert main(["train", str(crops_output), "--labels", "folder", "--save", save]) == 2
    assert message in capsys.readouterr().err


def test_an_output_without_rows_is_refused(tmp_path, capsys):
    words = ["train", str(tmp_path), "--labels", "folder", "--save", str(tmp_path / "h.keras")]
    assert main(words) == 2
    assert "no run has published there" in capsys.readouterr().err


def test_one_class_is_refused(crops_output, tmp_path, capsys):
    path = tmp_path / "one.csv"
    uri = read_features(crops_output)["uri"][0].as_py()
    path.write_text(f"uri,label\n{uri},only\n")
    words = ["train", str(crops_output), "--labels", f"csv:{path}", "--save", f"{tmp_path}/h.keras"]
    assert main(words) == 2
    assert "all images have the label only" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_head_whole(trained, crops_output, tmp_path, monkeypatch):
    done, _ = trained
    folder = shutil.copytree(done.path.parent, tmp_path / "heads")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    real, count = os.fsync, 0

    def full(descriptor):
        nonlocal count
        count += 1
        if count == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    options = brief(crops_output, folder / "head.keras")
    monkeypatch.setattr("pipeline.training.save.os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        training.train_head(options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_save_takes_the_place_of_one_that_was_killed(tmp_path):
    (tmp_path / ".tmp-head.keras").write_bytes(b"half of a he")
    files = {tmp_path / "head.json": b"{}", tmp_path / "head.keras": b"whole"}
    write_together(files)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_two_processes_save_one_after_the_other(tmp_path):
    """Each writes two files; a mixture would be the one's first and the other's second."""
    code = (
        "import sys; from pathlib import Path; from pipeline.training.save import write_together\n"
        "folder, word = Path(sys.argv[1]), sys.argv[2].encode()\n"
        "for _ in range(200): write_together({folder / n: word * 9999 for n in 'ab'})"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen([*words, word]) for word in ("x", "y")]
    assert [process.wait(timeout=100) for process in both] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_training_reads_one_version(crops_output, tmp_path, monkeypatch):
    """A run publishes between the reading of the labels and the reading of the vectors."""
    from pipeline import Config, extract

    output = shutil.copytree(crops_output, tmp_path / "out")
    real = training.read_examples

    def publish_first(*arguments):
        found = real(*arguments)
        images = crops_output.parent / "crops" / "rocket"
        extract(Config(inputs=(str(images),), output=str(output), max_removed_rate=1))
        return found

    monkeypatch.setattr(training, "read_examples", publish_first)
    path = tmp_path / "head.keras"
    done = training.train_head(brief(output, path))
    assert sum(done.rows) == 300
    assert Tables.published(open_storage(str(output))).features.version == 1
    assert read_features(output).num_rows == 50


def test_an_unfreezing_takes_the_head(trained, crops_output):
    done, _ = trained
    recipe = Tables.published(open_storage(str(crops_output))).features.recipe()
    assert list(head_labels(done.path, recipe, LABELS[::-1])) == LABELS
    with pytest.raises(UserError, match="another recipe: resize: squash → crop"):
        head_labels(done.path, {**recipe, "resize": "crop"}, LABELS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "0.1"], "add --unfreeze"),
        (["--unfreeze", "8", "--split-column", "fold"], "--split-column fold: the table"),
    ],
)
def test_options_of_the_other_training_are_refused(crops_output, tmp_path, capsys, words, message):
    options = ["--labels", "folder", "--save", str(tmp_path / "x.keras"), *words]
    assert main(["train", str(crops_output), *options]) == 2
    assert message in capsys.readouterr().err
