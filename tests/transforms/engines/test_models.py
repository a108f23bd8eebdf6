"""The exported network, in the cache and in the output: the next start repairs damage."""

import gc
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from transforms.engines.models import cache_folder, cached_model, load_model, save_model
from transforms.storage import StorageError, open_storage

FILES = {
    "graph.pb": b"graph" * 100,
    "golden.npz": b"golden" * 100,
    "model.json": b'{"labels": ["cat"]}',
}
DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "changed": lambda path: path.write_bytes(b"?" + path.read_bytes()[1:]),
    "lost": Path.unlink,
}
IN_CACHE = {**DAMAGES, "a folder": lambda path: (path.unlink(), path.mkdir())}


def fill(folder):
    for name, data in FILES.items():
        (folder / name).write_bytes(data)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("damage", IN_CACHE.values(), ids=IN_CACHE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_network_in_the_cache_is_made_anew(name, damage, caplog):
    folder = cached_model("1" * 64, fill)
    damage(folder / name)
    assert cached_model("1" * 64, fill) == folder
    assert {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES
    } == FILES
    assert f"the network in {folder} is not what was exported" in caplog.text
    # Other users of the cache may read it.
    assert folder.stat().st_mode & 0o777 == 0o755
    assert list(cache_folder().iterdir()) == [folder]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_network_in_the_output_is_refused_by_workers_and_put_back_by_the_driver(
    name, damage, tmp_path
):
    output = open_storage(str(tmp_path / "out"))
    source = cached_model("1" * 64, fill)
    save_model(output, "1" * 64, source)
    damage(tmp_path / "out/models" / ("1" * 64) / name)
    with pytest.raises(
        StorageError, match="is not what was exported; delete that folder and start again"
    ):
        load_model(output, "1" * 64)
    save_model(output, "1" * 64, source)
    assert (load_model(output, "1" * 64) / name).read_bytes() == FILES[name]


def test_changed_labels_in_a_bucket_are_refused_and_put_back(s3):
    output = open_storage(f"{s3.url}/out")
    source = cached_model("1" * 64, fill)
    save_model(output, "1" * 64, source)
    output.write(f"models/{'1' * 64}/model.json", b'{"labels": ["dog"]}')
    shutil.rmtree(source)
    with pytest.raises(StorageError, match="is not what was exported"):
        load_model(output, "1" * 64)
    save_model(output, "1" * 64, cached_model("1" * 64, fill))
    assert (load_model(output, "1" * 64) / "model.json").read_bytes() == FILES["model.json"]


def test_what_killed_exports_left_is_deleted_after_a_day():
    cache_folder().mkdir(parents=True)
    old, new, other = (
        cache_folder() / name for name in ("2" * 12 + "-old", "2" * 12 + "-new", "x")
    )
    for folder in (old, new, other):
        folder.mkdir()
        (folder / "graph.pb").write_bytes(b"half")
    for folder in (old, other):
        os.utime(folder, (0, 0))
    made = cached_model("1" * 64, fill)
    assert sorted(cache_folder().iterdir()) == sorted([made, new, other])


def test_a_full_disk_under_the_cache_is_named():
    def full(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(
        StorageError, match=rf"{cache_folder()}: No space left on device; make room there, or name"
    ):
        cached_model("1" * 64, full)


def onnx(folder):
    """An export of another format; its files only have to be kept and fetched."""
    fill(folder)
    (folder / "graph.pb").rename(folder / "network.onnx")
    network = {"format": "onnx", "file": "network.onnx"}
    (folder / "model.json").write_text(json.dumps({"network": network}))


def test_a_network_of_another_format_is_kept_under_its_own_name(tmp_path, s3):
    source = cached_model("1" * 64, onnx)
    names = ["SHA256SUMS", "golden.npz", "model.json", "network.onnx"]
    assert sorted(path.name for path in source.iterdir()) == names
    for url in (str(tmp_path / "out"), f"{s3.url}/out"):
        output = open_storage(url)
        keys = save_model(output, "1" * 64, source)
        assert sorted(keys) == [f"models/{'1' * 64}/{name}" for name in names]
        assert save_model(output, "1" * 64, source) == keys
    shutil.rmtree(source)
    assert (load_model(output, "1" * 64) / "network.onnx").read_bytes() == FILES["graph.pb"]


@pytest.mark.parametrize("file", ["../graph.pb", "/etc/passwd", ".", "", 7, None])
def test_a_network_outside_its_folder_is_refused(file, tmp_path, s3):
    """Whoever can write to the output must not choose which of a worker's files is overwritten."""
    output = open_storage(f"{s3.url}/out")
    save_model(output, "1" * 64, cached_model("1" * 64, fill))
    shutil.rmtree(cache_folder())
    facts = json.dumps({"network": {"format": "graphdef", "file": file}})
    output.write(f"models/{'1' * 64}/model.json", facts.encode())
    with pytest.raises(StorageError, match="is not what was exported"):
        load_model(output, "1" * 64)


def test_without_a_cache_a_process_makes_a_network_once_and_deletes_it_at_its_end(
    tmp_path, monkeypatch
):
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("transforms.engines.models._of_process", held := {})
    made = [cached_model(digit * 64, fill) for digit in "121"]
    assert made[0] == made[2] != made[1]
    (made[0] / "graph.pb").write_bytes(b"damaged")
    again = cached_model("1" * 64, fill)
    assert (again / "graph.pb").read_bytes() == FILES["graph.pb"]
    assert len(list(tmp_path.glob("image-features-*"))) == 2
    held.clear()
    gc.collect()
    assert not list(tmp_path.glob("image-features-*"))
