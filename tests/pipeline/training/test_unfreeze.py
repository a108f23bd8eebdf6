"""Unfreezing from a table to a model that extract takes, on crops of real photos."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import Config, extract
from pipeline.tables import Tables
from pipeline.training.unfreeze.opened import UnfreezeOptions
from pipeline.training.unfreeze.run import unfreeze
from tests.helpers.crops import make_crops
from tests.helpers.nets import net
from tests.helpers.runs import read_features, vectors
from tests.helpers.s3_server import S3
from transforms.backbones.head import HeadFacts, encode
from transforms.backbones.lite import builder, load_embedded
from transforms.backbones.network import import_keras
from transforms.backbones.spec import file_sha256
from transforms.backbones.table import find_backbone
from transforms.backbones.weights import find_weights
from transforms.choices import BackboneConfig
from transforms.decode.image import DecodePolicy
from transforms.decode.pool import DecodeAndResize
from transforms.errors import UserError
from transforms.preprocess import ValueRange
from transforms.storage import open_storage

PHOTOS = "chelsea coffee rocket"
# In another order than that of the table's labels.
LABELS = ["rocket", "chelsea", "coffee"]
SIZE = 64


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    options: UnfreezeOptions
    path: Path
    said: list[str]

    @property
    def training(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.path.with_suffix(".json").read_text())
        return dict(facts["training"])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    return make_crops(tmp_path_factory.mktemp("crops") / "images", photos, PHOTOS, 24, SIZE)


@pytest.fixture(scope="module")
def output(images: Path) -> str:
    """A table of crops; two of them are lost and damaged afterwards."""
    out = str(images.with_name("out"))
    extract(Config.of(inputs=(str(images),), output=out, input_size=SIZE, engine="tensorflow"))
    (images / "coffee/003.jpg").unlink()
    damaged, status = images / "coffee/004.jpg", (images / "coffee/004.jpg").stat()
    content = damaged.read_bytes()
    damaged.write_bytes(content[:300] + b"\0" * (len(content) - 300))
    # The etag stays the same.
    os.utime(damaged, ns=(status.st_atime_ns, status.st_mtime_ns))
    return out


@pytest.fixture(scope="module")
def head(output: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head that knows nothing yet, so that there is much to learn."""
    import_keras()
    import keras

    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("head") / "head.keras"
    keras.Sequential([keras.Input((1280,)), keras.layers.Dense(3, "softmax")]).save(path)
    recipe = Tables.published(open_storage(output)).features.recipe()
    assert recipe
    facts = HeadFacts(file_sha256(path), recipe, tuple(LABELS), exclusive=True)
    path.with_suffix(".json").write_bytes(encode(facts))
    return path


def tar_of(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(folder, "crops")
    return content.getvalue()


@pytest.fixture(scope="module")
def trained(output: str, head: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    options = UnfreezeOptions(
        output=output,
        labels="folder",
        unfreeze="block15_expand_conv",
        save=str(path),
        head=str(head),
        epochs=2,
        rate=1e-3,
        batch_size=16,
    )
    said: list[str] = []
    return Trained(options, unfreeze(options, said.append), said)


def test_the_loss_falls_epoch_by_epoch(trained: Trained) -> None:
    lines = [line for line in trained.said if line.startswith("epoch")]
    number = r"\d+\.\d{4}"
    for epoch, line in zip((1, 2), lines[1:], strict=False):
        words = ("loss", "accuracy", "val_loss", "val_accuracy")
        assert re.fullmatch(f"epoch {epoch}/2 " + " ".join(f"{w} {number}" for w in words), line)
    first, second = trained.training["epochs"][1:]
    assert second["loss"] < first["loss"]
    assert second["val_loss"] < trained.training["epochs"][0]["val_loss"]
    assert trained.training["test"]["accuracy"] > 0.6
    assert not trained.path.with_name("model.keras.training").exists()


def test_images_that_fail_are_counted_and_named(trained: Trained) -> None:
    said = "\n".join(trained.said)
    assert "2 of 72 images failed and are left out: changed 1, not_found 1" in said
    assert re.search(r"coffee/003\.jpg: not_found: ", said)
    assert re.search(r"coffee/004\.jpg: changed: has other bytes than the table says", said)
    assert sum(trained.training["images"].values()) == 70


def test_only_the_unfrozen_layers_learn(trained: Trained) -> None:
    """The statistics of BatchNormalization, and all before the layer, stay as they came."""
    import keras

    weights = find_weights(find_backbone("efficientnet_lite0"), BackboneConfig(), 224, None)
    assert weights.path
    came = builder("efficientnet_lite0")(input_shape=(SIZE, SIZE, 3))
    load_embedded(came, weights.path)
    model = keras.models.load_model(trained.path, compile=False)
    changed = {
        layer.name
        for layer in came.layers
        if layer.weights and layer.name != "predictions"
        for before, after in zip(
            layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True
        )
        if not np.array_equal(before, after)
    }
    learning = "block15_expand_conv block15_depthwise_conv block15_project_conv head_conv"
    assert changed == set(learning.split()) == set(trained.training["learning"])


def test_extract_takes_the_model_without_further_options(
    trained: Trained, images: Path, tmp_path: Path
) -> None:
    import keras

    out = str(tmp_path / "out")
    extract(Config.of(inputs=(f"{images}/rocket",), output=out, backbone=str(trained.path)))
    rows = read_features(out)
    model = keras.models.load_model(trained.path, compile=False)
    decode = DecodeAndResize(DecodePolicy(), (SIZE, SIZE), "squash")
    pixels = np.stack([decode(Path(uri).read_bytes()).pixels for uri in rows["uri"].to_pylist()])
    both = keras.Model(model.input, [model.get_layer("vector").output, model.output])
    expected, scores = both(ValueRange("lite")(pixels), training=False)
    assert np.abs(vectors(rows) - expected).max() < 1e-4
    assert np.abs(rows["score"].to_numpy() - np.max(scores, axis=1)).max() < 1e-4
    assert rows["label"].to_pylist().count("rocket") > 18


def test_a_killed_training_goes_on_and_gives_the_same_model(
    trained: Trained, tmp_path: Path
) -> None:
    options = replace(trained.options, save=str(tmp_path / "model.keras"))
    command = ["train", options.output, "--labels", "folder", "--save", options.save]
    command += ["--unfreeze", options.unfreeze, "--epochs", "2", "--rate", "1e-3"]
    command += ["--head", str(options.head), "--batch-size", "16"]
    # It dies when the state of the second epoch is written, but does not have its name yet.
    killed = [sys.executable, "-m", "tests.helpers.killed", "fsync", "4", *command]
    died = subprocess.run(killed, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert "epoch 1/2" in died.stdout
    assert not Path(options.save).exists()
    said: list[str] = []
    resumed = unfreeze(options, said.append)
    assert [line.split()[1] for line in said if line.startswith("epoch")] == ["2/2", "2"]
    import keras

    one, other = (keras.models.load_model(path, compile=False) for path in (trained.path, resumed))
    for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.keras"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unfreeze": "block99"}, r"no such layer; .*are .*head_conv\. Or give a number from 1 to"),
        ({"unfreeze": "100"}, r"--unfreeze 100: this network has 49 layers that can learn"),
        ({"save": "model.h5"}, r"needs a name that ends with \.keras"),
        ({"save": "s3://bucket/model.keras"}, "must be a file of this machine"),
        ({"labels": "column:kind"}, "the table carries no such column; it has none"),
        ({"rate": 0.0}, r"--rate 0\.0: must be more than 0"),
        ({"epochs": 0}, "--epochs 0: must be at least 1"),
        ({"table": "other"}, "no run has published a table features-other"),
        ({"backbone": "ResNet50", "weights": "random"}, "is not the network of the table"),
        ({"head": "/none/head.keras"}, r"--head /none/head\.keras: .*cannot be read"),
    ],
)
def test_a_mistake_is_one_line(
    trained: Trained, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    save = {"save": str(tmp_path / "model.keras")}
    with pytest.raises(UserError, match=message) as error:
        unfreeze(replace(trained.options, **{**save, **change}), lambda _: None)
    assert str(error.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_another_output_without_a_table_is_one_line(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run has published there"):
        unfreeze(replace(trained.options, output=str(tmp_path)), lambda _: None)


def test_a_model_of_your_own_is_trained_on_members_of_a_tar_in_a_bucket(
    images: Path, tmp_path: Path, run: Callable[..., Any], s3: S3
) -> None:
    """Its table only names it, so its file is asked for; its head is trained first."""
    own, out = tmp_path / "own.keras", f"{s3.url}/out"
    net().save(own)
    s3.put("crops.tar", tar_of(images))
    options_of_run = {"backbone": str(own), "preprocess": "unit", "normalize": "l2"}
    run(f"{s3.url}/crops.tar", out, engine="tensorflow", **options_of_run)
    save = str(tmp_path / "model.keras")
    options = UnfreezeOptions(out, "folder", "conv", save, epochs=1, batch_size=8)
    with pytest.raises(UserError, match=r"your own model own\.keras; say by --backbone where"):
        unfreeze(options, lambda _: None)
    said: list[str] = []
    unfreeze(replace(options, backbone=str(own)), said.append)
    assert "failed" not in "".join(said)
    facts = json.loads((tmp_path / "model.json").read_text())
    assert (facts["feature_layer"], facts["preprocess"]) == ("vector", "unit")
    # The vectors are of length 1, as those of the table.
    trained_out = tmp_path / "trained"
    run(images, output=trained_out, backbone=save, engine="tensorflow")
    lengths = np.linalg.norm(vectors(read_features(trained_out)), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["rocket", "moon"]}, "only the images have chelsea, coffee; .*head has moon"),
        ({"recipe_fields": {"resize": "crop"}}, "of another recipe: .*resize: crop → squash"),
        ({"sha256": "f" * 64}, r"head\.json belongs to another head"),
        ({"labels": 7}, r"head\.json is damaged"),
        ({"labels": ["rocket", "chelsea", "\ud800"]}, r"head\.json is damaged"),
        ({"format": "another"}, r"head\.json describes no head of 'image-features train'"),
        ({"version": 2}, r"head\.json has version 2, and this program reads version 1"),
    ],
)
def test_a_head_that_does_not_fit_is_one_line(
    trained: Trained, head: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    other = tmp_path / "head.keras"
    shutil.copy(head, other)
    facts = json.loads(head.with_suffix(".json").read_text())
    other.with_suffix(".json").write_text(json.dumps(facts | changes))
    options = replace(trained.options, head=str(other), save=str(tmp_path / "model.keras"))
    with pytest.raises(UserError, match=message):
        unfreeze(options, lambda _: None)


def test_files_of_the_models_folder_stay_when_it_cannot_be_saved(
    trained: Trained, tmp_path: Path
) -> None:
    """The disk is full: a limit on the size of files stands for that."""
    import resource

    from pipeline.training.unfreeze.save import save_model

    path = tmp_path / "model.keras"
    shutil.copy(trained.path, path)
    shutil.copy(trained.path.with_suffix(".json"), path.with_suffix(".json"))
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    model = net()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match=rf"cannot write {path}: .*make room there"):
            save_model(model, path, tmp_path, lambda _: pytest.fail("the model is not whole"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
