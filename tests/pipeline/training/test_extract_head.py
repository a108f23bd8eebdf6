"""A head in a run: labels inside the exported network, and labels of rows that exist already."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable

from pipeline import Config, extract, search, verify
from pipeline.cli import main
from pipeline.maintenance.vacuum import vacuum
from pipeline.run import extract_each, plan_run
from pipeline.tables import Tables
from pipeline.training.train import TrainOptions, train_head
from tests.helpers.outputs import FORTNIGHT, later
from tests.helpers.runs import make_folder, read_errors, read_features, vectors
from transforms.backbones import export, resolve
from transforms.backbones.head import HeadFacts, encode, load_head
from transforms.backbones.spec import file_sha256
from transforms.choices import BackboneConfig
from transforms.engines import EngineConfig, load_engine
from transforms.errors import Refused, UserError
from transforms.storage import open_storage

PHOTO_LABELS = ("astronaut", "camera", "chelsea", "coffee", "motorcycle_left", "rocket")
LABEL_COLUMNS = ["label", "score", "labels", "recipe"]


@pytest.fixture(scope="module")
def head(crops_output, tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "head.keras"
    train_head(TrainOptions(str(crops_output), "folder", str(path)))
    return path


@pytest.fixture(scope="module")
def photos_output(tmp_path_factory, photos):
    """Extract six photos and a broken file without a head; for reading only."""
    root = tmp_path_factory.mktemp("photos")
    images = make_folder(root / "images", photos)
    (images / "broken.jpg").write_bytes(b"no image")
    extract(config_of(root))
    return root


@pytest.fixture
def root(photos_output, tmp_path):
    shutil.copytree(photos_output / "out", tmp_path / "out")
    (tmp_path / "images").symlink_to(photos_output / "images")
    return tmp_path


def config_of(root, **network):
    return Config(
        inputs=(str((root / "images").resolve()),),
        output=str(root / "out"),
        shard_size=3,
        max_failure_rate=0.5,
        network=BackboneConfig(**network),
    )


def test_the_head_gives_the_labels_of_new_images(photos_output, head, tmp_path):
    root = tmp_path
    (root / "images").symlink_to(photos_output / "images")
    extract(config_of(root, head=str(head), top_k=2))
    rows, before = read_features(root / "out"), read_features(photos_output / "out")
    assert vectors(rows).tobytes() == vectors(before).tobytes()
    expected = load_head(head, 1280, 6).predict_on_batch(vectors(rows))
    best = np.argsort(-expected, axis=1)[:, :2]
    ranked = rows["labels"].to_pylist()
    assert rows["label"].to_pylist() == [PHOTO_LABELS[row[0]] for row in best]
    assert rows["label"].to_pylist() == [Path(uri).stem for uri in rows["uri"].to_pylist()]
    assert [[label["index"] for label in row] for row in ranked] == best.tolist()
    scores = [[label["score"] for label in row] for row in ranked]
    np.testing.assert_allclose(scores, np.take_along_axis(expected, best, 1), atol=1e-5)
    recipe = Tables.open(open_storage(str(root / "out"))).features.recipe()
    assert recipe["head"] == resolve(BackboneConfig(head=str(head))).head.sha256
    assert not list(verify(root / "out", sample=6).problems)


def test_the_golden_batch_holds_the_scores_of_the_head(head, tmp_path):
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    export(resolve(BackboneConfig(head=str(head))), right)
    with np.load(right / "golden.npz") as golden:
        arrays = dict(golden)
    shutil.copytree(right, wrong)
    arrays["scores"][1, 0] -= 0.01
    np.savez(wrong / "golden.npz", **arrays)
    for engine in ("tensorflow", "openvino"):
        load_engine(EngineConfig(str(right), engine))
        with pytest.raises(RuntimeError, match="other scores of the head than Keras"):
            load_engine(EngineConfig(str(wrong), engine))


def test_the_head_takes_vectors_as_they_are_stored(tmp_path):
    network = BackboneConfig(normalize="l2")
    path = make_head(tmp_path / "own.keras", 1280, resolve(network).recipe_fields)
    export(resolve(replace(network, head=str(path))), tmp_path / "export")
    images = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    outputs = load_engine(EngineConfig(str(tmp_path / "export"))).run(images)
    np.testing.assert_allclose(np.linalg.norm(outputs.features, axis=1), 1, atol=1e-5)
    expected = load_head(path, 1280, 2).predict_on_batch(outputs.features)
    np.testing.assert_allclose(outputs.scores, -np.sort(-expected, axis=1), atol=1e-5)


def test_published_rows_get_their_labels_from_stored_vectors(root, head):
    before = read_features(root / "out")
    summary = extract(config_of(root, head=str(head)))
    assert (summary.unchanged, summary.embedded, summary.still_failed) == (6, 0, 1)
    assert (summary.relabelled, summary.state) == (6, "unchanged")
    assert str(summary).endswith("; relabelled 6")
    rows = read_features(root / "out")
    same = [name for name in rows.column_names if name not in LABEL_COLUMNS]
    assert rows.select(same).equals(before.select(same))
    assert vectors(rows).tobytes() == vectors(before).tobytes()
    assert rows["label"].to_pylist() == [Path(uri).stem for uri in rows["uri"].to_pylist()]
    tables = Tables.open(open_storage(str(root / "out")))
    assert tables.features.recipe()["head"]
    assert {row["recipe"] for row in read_errors(root / "out")} == {tables.features.recipe_id}
    assert dict(tables.versions) == {"features": 1, "errors": 1}
    newest = tables.features.history()[0]["change"]
    assert (newest["operation"], newest["rows"], newest["added"], newest["removed"]) == (
        "relabel", 6, 0, 0,
    )  # fmt: skip
    assert not list(verify(root / "out", sample=6).problems)
    # The network with the head is in the output, although no image was extracted.
    assert search(root / "out", image=str(root / "images/chelsea.jpg"))["label"][0].as_py() == (
        "chelsea"
    )
    assert extract(config_of(root, head=str(head))).relabelled == 0
    assert DeltaTable(root / "out/features").version() == 1


def test_one_command_relabels_and_extracts_what_is_new(tmp_path, photos, head):
    root = tmp_path
    make_folder(root / "images", photos, "chelsea coffee")
    extract(config_of(root))
    make_folder(root / "images/more", photos, "rocket")
    summary = extract(config_of(root, head=str(head), top_k=3))
    assert (summary.unchanged, summary.embedded, summary.relabelled) == (2, 1, 2)
    rows = read_features(root / "out")
    assert rows["label"].to_pylist() == ["chelsea", "coffee", "rocket"]
    assert {len(labels) for labels in rows["labels"].to_pylist()} == {3}
    assert len(set(rows["recipe"].to_pylist())) == 1
    assert not list(verify(root / "out", sample=3).problems)


def test_a_dry_run_says_so_and_writes_nothing(root, head, caplog):
    words = [
        "extract",
        "--input",
        str((root / "images").resolve()),
        "--output",
        f"{root}/out",
        "--dry-run",
    ]
    before = sorted(path for path in (root / "out").rglob("*"))
    assert main([*words, "--head", str(head)]) == 0
    said = caplog.text
    assert f"would compute the labels of 6 rows from the stored vectors, by {head}" in said
    assert sorted(path for path in (root / "out").rglob("*")) == before
    with pytest.raises(Refused, match="Run 'image-features extract' with these options first"):
        plan_run(config_of(root, head=str(head)))


def test_a_head_of_other_vectors_is_refused_field_by_field(root, head, crops_output):
    config = replace(config_of(root, head=str(head), normalize="l2"), resize="crop")
    with pytest.raises(UserError) as refused:
        extract(config)
    assert "normalize: none → l2; resize: squash → crop" in str(refused.value)
    extract(config_of(root, head=str(head)))
    with pytest.raises(Refused, match=r"head: \w+ → \(none\)"):
        extract(config_of(root))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "words.txt"}, "--labels words.txt: with --head"),
        ({"scores": "softmax"}, "--scores softmax: with --head"),
        ({"top_k": 0}, "--top-k 0: with --head"),
    ],
)
def test_options_of_other_labels_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        BackboneConfig(head="head.keras", **options)


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "no facts"])
def test_a_damaged_head_is_one_clear_line(root, head, tmp_path, capsys, damage):
    folder = shutil.copytree(head.parent, tmp_path / "heads")
    path = folder / "head.keras"
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "other":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        path.with_suffix(".json").unlink()
    words = ["extract", "--input", str((root / "images").resolve()), "--output", f"{root}/out"]
    assert main([*words, "--head", str(path)]) == 2
    said = capsys.readouterr().err.strip()
    assert str(path) in said
    assert len(said.splitlines()) == 1
    assert DeltaTable(root / "out/features").version() == 0


@pytest.mark.parametrize(
    ("where", "again"),
    [("before commit errors", "without it"), ("before commit features", "with the head")],
)
def test_a_killed_relabelling_leaves_one_recipe(root, head, where, again):
    words = [
        "extract",
        "--input",
        str((root / "images").resolve()),
        "--output",
        f"{root}/out",
        "--shard-size",
        "3",
    ]
    command = [sys.executable, "-m", "tests.helpers.killed", where, "1", *words]
    killed = subprocess.run([*command, "--head", str(head)], capture_output=True, timeout=120)
    assert killed.returncode == -9, killed.stderr
    assert {label["label"] for label in read_features(root / "out").to_pylist()} != set(
        PHOTO_LABELS
    )
    extract(config_of(root, head=str(head) if again == "with the head" else None))
    tables = Tables.open(open_storage(str(root / "out")))
    assert {row["recipe"] for row in read_errors(root / "out")} == {tables.features.recipe_id}
    assert not list(verify(root / "out", sample=6).problems)


def test_each_backbone_has_a_head_of_its_own(tmp_path, photos_output, head):
    (tmp_path / "images").symlink_to(photos_output / "images")
    small = "MobileNetV3Small,weights=random,input-size=32,table=small"
    both = replace(config_of(tmp_path), backbones=("efficientnet_lite0", small))
    extract_each(both)
    features = Tables.open(open_storage(f"{tmp_path}/out"), "small").features
    own = make_head(tmp_path / "small.keras", 576, features.recipe())
    with_heads = (f"efficientnet_lite0,head={head}", f"{small},head={own}")
    first, second = extract_each(replace(both, backbones=with_heads))
    assert (first.unchanged, second.unchanged) == (6, 6)
    assert set(read_features(tmp_path / "out")["label"].to_pylist()) == set(PHOTO_LABELS)
    rows = DeltaTable(tmp_path / "out/features-small").to_pyarrow_table()
    assert set(rows["label"].to_pylist()) <= {"yes", "no"}
    for table in ("", "small"):
        assert not list(verify(tmp_path / "out", sample=6, table=table).problems)


def make_head(path, dimension, recipe):
    """Make a head of two labels that do not exclude each other, by Keras alone."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((dimension,)), keras.layers.Dense(2, "sigmoid")]
    keras.Sequential(layers).save(path)
    facts = HeadFacts(file_sha256(path), recipe, ("yes", "no"), exclusive=False)
    path.with_suffix(".json").write_bytes(encode(facts))
    return path


def test_vacuum_deletes_the_parts_of_an_earlier_head(root, head):
    extract(config_of(root, head=str(head)))
    extract(config_of(root, head=str(head), top_k=2))
    before = {path.name for path in (root / "out/features").glob("*-relabelled-*")}
    vacuum(root / "out", FORTNIGHT, now=later())
    left = {path.name for path in (root / "out/features").glob("*-relabelled-*")}
    assert (len(before), len(left)) == (6, 3)
    assert not list(verify(root / "out").problems)
