"""A model in a bucket: fetched with what belongs to it, and the same as a local one."""

from pathlib import Path

import onnx
import pytest

from pipeline.cli import main
from tests.helpers.nets import LABELS, SIZE, net
from tests.helpers.onnx_nets import small_net
from transforms.backbones import BackboneConfig, fetched, model_id, resolve
from transforms.backbones.model_json import Description, encode
from transforms.backbones.spec import file_sha256
from transforms.errors import UserError
from transforms.storage import NotFound


def put_all(s3, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.put(f"nets/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_a_keras_file_and_a_saved_model_are_those_of_the_folder(s3, tmp_path):
    model = net()
    model.save(tmp_path / "own.keras")
    model.export(tmp_path / "saved", verbose=False)
    facts = Description(
        sha256=file_sha256(tmp_path / "own.keras"),
        input_size=(SIZE, SIZE),
        resize="crop",
        preprocess="tf",
        feature_layer="hidden",
        labels=tuple(LABELS),
    )
    (tmp_path / "own.json").write_bytes(encode(facts))
    put_all(s3, tmp_path)
    # The mark of a folder, which some programs write.
    s3.put("nets/saved/", b"")
    here = resolve(BackboneConfig(backbone=str(tmp_path / "own.keras")))
    there = resolve(BackboneConfig(backbone=f"{s3.url}/nets/own.keras"))
    assert model_id(there) == model_id(here)
    assert there.labels == tuple(LABELS)
    for url in (f"{s3.url}/nets/saved", f"{s3.url}/nets/saved/"):
        here = resolve(BackboneConfig(backbone=str(tmp_path / "saved"), preprocess="tf"))
        there = resolve(BackboneConfig(backbone=url, preprocess="tf"))
        assert model_id(there) == model_id(here)


@pytest.mark.parametrize("key", ["saved/../../evil", "saved//evil", "/saved/x", "saved/a\\b"])
def test_a_name_that_leaves_the_folder_is_refused(key):
    with pytest.raises(UserError, match="which is no file name here"):
        fetched.is_inside(key, "saved", "s3://bucket/saved")


def test_an_onnx_file_comes_with_its_weights(s3, tmp_path, capsys):
    onnx.save_model(
        small_net(),
        str(tmp_path / "net.onnx"),
        save_as_external_data=True,
        location="net.onnx_data",
        size_threshold=0,
    )
    put_all(s3, tmp_path)
    url = f"{s3.url}/nets/net.onnx"
    here = resolve(BackboneConfig(backbone=str(tmp_path / "net.onnx"), preprocess="unit"))
    assert model_id(resolve(BackboneConfig(backbone=url, preprocess="unit"))) == model_id(here)
    assert main(["backbones", "--inspect", url]) == 0
    assert "vector without --feature-layer: input of answer" in capsys.readouterr().out
    s3.client.delete_object(Bucket=s3.bucket, Key="nets/net.onnx_data")
    with pytest.raises(NotFound, match=r"net\.onnx_data is not there"):
        resolve(BackboneConfig(backbone=url, preprocess="unit"))


def test_what_is_not_there_is_named(s3):
    for name in ("none.onnx", "none.keras", "none"):
        with pytest.raises(UserError, match=f"nets/{name}: there is no such file or folder"):
            resolve(BackboneConfig(backbone=f"{s3.url}/nets/{name}", preprocess="unit"))
