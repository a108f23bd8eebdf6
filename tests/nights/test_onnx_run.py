"""Nights with an ONNX file as the backbone: the table in a bucket, its maintenance, and search."""

import logging
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable
from PIL import Image

from pipeline.cli import main
from pipeline.maintenance.vacuum import vacuum
from tests.helpers.onnx_nets import ORIENTATION, needs_orientation, ort_says, save, small_net
from tests.helpers.outputs import FORTNIGHT, later
from tests.helpers.runs import make_folder, read_features
from transforms.preprocess import Resize, ValueRange
from transforms.storage import open_storage

ANGLES = ["0", "180", "270", "90"]


@pytest.fixture
def labels(tmp_path: Path) -> str:
    (tmp_path / "angles.txt").write_text("\n".join(ANGLES))
    return str(tmp_path / "angles.txt")


def theirs(photo: Path, tensor: str) -> np.ndarray:
    """Return what onnxruntime gives for one of our photos, from its file on."""
    pixels = Resize(224, 224)(np.asarray(Image.open(photo)))
    values = ValueRange("torch")(pixels).transpose(2, 0, 1)[None]
    return ort_says(ORIENTATION, tensor, values)[0]


@needs_orientation
def test_a_night_in_a_bucket_gives_what_onnxruntime_gives(photos, tmp_path, labels, s3, run):
    folder = make_folder(tmp_path / "photos", photos, "chelsea coffee")
    options = {"backbone": str(ORIENTATION), "preprocess": "torch", "labels": labels}
    run(folder, f"{s3.url}/out", **options)
    make_folder(tmp_path / "photos/more", photos, "rocket")
    summary = run(folder, f"{s3.url}/out", **options)
    assert (summary.listed, summary.unchanged, summary.embedded) == (3, 2, 1)
    url = f"{s3.url}/out/features"
    table = DeltaTable(url, storage_options=open_storage(url).delta_options).to_pyarrow_table()
    assert table.num_rows == 3
    for row in table.to_pylist():
        vector = theirs(Path(row["uri"]), "p2o.pd_op.flatten.0.0")
        assert np.abs(vector - row["embedding"]).max() < 1e-5
        shares = theirs(Path(row["uri"]), "fetch_name_0")
        assert row["label"] == ANGLES[shares.argmax()]
        assert abs(row["score"] - shares.max()) < 1e-5


@needs_orientation
def test_the_commands_know_the_network(photos, tmp_path, labels, run, capsys, caplog):
    folder = make_folder(tmp_path / "photos", photos, "chelsea coffee")
    output = tmp_path / "out"
    small = save(small_net(), tmp_path / "small.onnx")
    words = ["extract", "--input", str(folder), "--output", str(output), "--labels", labels]
    both = ["--backbone", f"{ORIENTATION},preprocess=torch", "--backbone"]
    own = f"{small},labels=,mean=0.5,0.5,0.5,std=0.5,0.5,0.5,table=small"
    assert main([*words, *both, f"{own},engine=tensorflow"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "image-features: --engine tensorflow: small.onnx is an ONNX file, which only openvino runs "
        "here; leave the option out\n"
    )
    assert not output.exists()
    with caplog.at_level(logging.INFO):
        assert main([*words, *both, own]) == 0
    assert "engine: openvino (the only one that runs an ONNX file), in float32" in caplog.text
    assert len(read_features(output)) == 2
    table = DeltaTable(output / "features-small").to_pyarrow_table()
    assert [len(vector) for vector in table["embedding"].to_pylist()] == [5, 5]
    models = [path for path in (output / "models").iterdir() if path.is_dir()]
    expected = ["SHA256SUMS", "golden.npz", "model.json", "network.bin", "network.xml"]
    assert [sorted(file.name for file in model.iterdir()) for model in models] == [expected] * 2
    assert main(["verify", str(output)]) == 0
    capsys.readouterr()
    assert main(["search", str(output), "--image", str(folder / "coffee.jpg")]) == 0
    assert "coffee.jpg" in capsys.readouterr().out.splitlines()[1]

    unused = output / "models" / ("1" * 64)
    models[0].rename(unused)
    text = str(vacuum(str(output), FORTNIGHT, now=later()))
    assert "left alone" not in text
    assert not unused.exists()
