"""Storage: the same promises for a local folder and a bucket, and one clear line where they break."""

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from transforms.errors import UserError
from transforms.storage import (
    NotFound,
    PermissionDenied,
    StorageError,
    Unaddressable,
    local_path,
    open_storage,
)
from transforms.storage.bucket import Bucket

SPECIAL = [
    "a b.bin",
    "ünï/日本 😀.bin",
    "100%.bin",
    "a%2Fb.bin",
    "c#d?e=f&g.bin",
    "[x]*+~'\".bin",
    " edge .bin",
]


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path):
    if request.param == "local":
        return open_storage(str(tmp_path / "my data#1"))
    return open_storage(request.getfixturevalue("s3").url + "/my data#1/%2F")


@pytest.mark.parametrize("key", SPECIAL)
def test_any_key_comes_back_as_it_is(storage, key):
    key = f"deep/{key}"
    assert not storage.exists(key)
    storage.write(key, b"first")
    storage.write(key, b"second")
    assert storage.read(key) == b"second"
    assert storage.exists(key)
    assert [(found.key, found.size) for found in storage.list()] == [(key, 6)]
    storage.delete(key)
    assert not storage.exists(key)
    storage.delete(key)


def test_a_prefix_is_a_folder(storage):
    for key in ("runs/1/a", "runs/1/b/c", "runs/10/a", "runs/1a"):
        storage.write(key, b"x")
    assert sorted(found.key for found in storage.list("runs/1")) == ["runs/1/a", "runs/1/b/c"]
    assert sorted(found.key for found in storage.list("runs/1/")) == ["runs/1/a", "runs/1/b/c"]
    assert list(storage.list("runs/2")) == []
    assert storage.folders("runs") == ["1", "10"]
    assert storage.folders("runs/1") == ["b"]
    assert storage.folders("nothing") == []


def test_the_listing_tells_one_version_from_another(storage):
    storage.write("k", b"old")
    (old,) = storage.list()
    storage.write("k", b"newer")
    (new,) = storage.list()
    assert old.etag
    assert old.etag != new.etag
    assert '"' not in old.etag + new.etag
    assert old.modified <= new.modified


def test_only_one_of_many_writes_what_is_absent(storage):
    start = threading.Barrier(8)

    def attempt(number):
        start.wait()
        return storage.write_if_absent("claims/shard", bytes([number]) * 1000)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))
    assert sum(won) == 1
    assert storage.read("claims/shard") == bytes([won.index(True)]) * 1000
    assert [found.key for found in storage.list()] == ["claims/shard"]


def test_what_is_missing_is_named(storage):
    with pytest.raises(NotFound, match=r"nothing/here.* is not there"):
        storage.read("nothing/here")


def test_a_storage_travels_and_says_where_it_is(storage):
    storage.write("k", b"x")
    assert pickle.loads(pickle.dumps(storage)).read("k") == b"x"
    assert open_storage(storage.url).read("k") == b"x"
    assert open_storage(storage.url + "/").url == storage.url


@pytest.mark.parametrize("write", ["write", "write_if_absent"])
def test_a_write_that_breaks_leaves_nothing(tmp_path, monkeypatch, write):
    storage = open_storage(str(tmp_path))
    storage.write("old", b"whole")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    key = "old" if write == "write" else "new"
    with pytest.raises(
        StorageError, match=r"^cannot write .*: No space left on device; make room there$"
    ):
        getattr(storage, write)(key, b"x" * 100)
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]
    assert storage.read("old") == b"whole"


def test_only_what_outlives_the_machine_waits_for_the_disk(tmp_path, monkeypatch):
    storage, waits = open_storage(str(tmp_path)), []
    monkeypatch.setattr(os, "fsync", waits.append)
    storage.write("scratch", b"whole", durable=False)
    assert (storage.read("scratch"), len(waits)) == (b"whole", 0)
    storage.write("kept", b"whole")
    # The file, and its name in the folder
    assert len(waits) == 2


def test_what_a_killed_process_leaves_is_not_listed(tmp_path, monkeypatch):
    storage = open_storage(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(
            "pathlib.Path.unlink", lambda *_, **__: None
        )  # a killed process cleans nothing up
        storage.write_if_absent("key", b"x")
    assert len(list(tmp_path.iterdir())) == 2
    assert [found.key for found in storage.list()] == ["key"]


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/passwd", "", "nul\0"])
def test_no_key_leads_out_of_a_local_storage(tmp_path, key):
    with pytest.raises(StorageError, match="is no key inside"):
        open_storage(str(tmp_path / "in")).read(key)


def test_local_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_storage("out/").url == f"{tmp_path}/out"
    assert open_storage(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"
    (tmp_path / "100%25").mkdir()
    assert open_storage(f"file://{tmp_path}/100%25").url == f"{tmp_path}/100%25"  # there literally
    assert local_path(f"file://localhost{tmp_path}") == tmp_path
    assert local_path("gs://bucket/x") is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "http://host/x",
            r"http:// is not supported; allowed: a local path, file://, s3://, gs:// or az://",
        ),
        ("gcs://bucket/x", r"did you mean gs://"),
        ("S3://bucket/x", r"did you mean s3://"),
        ("s3:/bucket/x", r"did you mean s3://"),
        ("s3:///x", r"names no bucket"),
        ("s3://user@evil/x", r"names no bucket"),
        ("s3://bu*/x", r"names no bucket; write s3://BUCKET/KEY"),
        ("file://host/x", r"is no local file"),
        ("", r"is no path"),
    ],
)
def test_an_address_that_is_none_is_explained(url, message):
    with pytest.raises(UserError, match=message):
        open_storage(url)


def test_deltalake_finds_the_bucket_by_the_same_environment(s3):
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    url = f"{s3.url}/table"
    write_deltalake(url, pa.table({"x": [1, 2]}), storage_options=open_storage(url).delta_options)
    assert DeltaTable(url, storage_options=open_storage(url).delta_options).to_pyarrow_table()[
        "x"
    ].to_pylist() == [1, 2]
    assert open_storage("/local").delta_options == open_storage("file:///local").delta_options == {}


def test_another_endpoint_opens_another_client(s3, misbehaving, monkeypatch, s3_endpoint):
    bucket = Bucket("s3", s3.bucket)
    assert bucket.get("k") == misbehaving.body
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    s3.put("k", b"moto's")
    assert bucket.get("k") == b"moto's"


def test_a_missing_bucket_is_named(s3):
    for act in (
        lambda bucket: bucket.get("k"),
        lambda bucket: list(bucket.pages("")),
        lambda bucket: bucket.level(""),
    ):
        with pytest.raises(NotFound, match=r"^the bucket s3://no-such-bucket/ does not exist$"):
            act(Bucket("s3", "no-such-bucket"))


def test_missing_credentials_are_explained(misbehaving, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", misbehaving.endpoint)
    with pytest.raises(
        PermissionDenied, match=r"^no credentials for s3://bucket/: set AWS_ACCESS_KEY_ID and .*$"
    ):
        open_storage("s3://bucket").read("k")


@pytest.mark.parametrize("code", [401, 403])
def test_a_denial_is_one_line(misbehaving, code):
    with pytest.raises(
        PermissionDenied, match=rf"^permission denied for s3://bucket/{code}x99: .* {code} \w+.*$"
    ):
        open_storage("s3://bucket").read(f"{code}x99")
    assert misbehaving.requests[f"{code}x99"] == 1


@pytest.mark.parametrize("key", ["503x2", "429x2", "500x1", "cutx2"])
def test_what_passes_is_tried_again(misbehaving, key):
    assert open_storage("s3://bucket").read(key) == misbehaving.body
    assert misbehaving.requests[key] == 1 + int(key[-1])


def test_no_secret_of_a_url_is_in_a_message(misbehaving, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", misbehaving.endpoint)
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2020&sig=SECRETSECRET")
    with pytest.raises(StorageError, match="az://container/400x99") as caught:
        open_storage("az://container").read("400x99")
    assert any("sig=SECRETSECRET" in query for query in misbehaving.queries)  # it was used
    assert "SECRET" not in f"{caught.value} {caught.value.__cause__}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "./a", "a/../b", "tab\t"])
def test_a_key_that_the_client_cannot_express_is_explained(s3, key):
    with pytest.raises(Unaddressable, match="the client cannot address"):
        Bucket("s3", s3.bucket).get(key)


def test_importing_costs_no_client():
    import subprocess
    import sys

    code = "import sys, transforms.storage, transforms.sources, transforms.read; print('obstore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_up_after_a_link_leads_where_the_system_goes(tmp_path):
    (tmp_path / "far" / "inner").mkdir(parents=True)
    (tmp_path / "far" / "photos").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("far/inner")
    far = tmp_path.resolve() / "far" / "photos"
    for url in (
        f"{tmp_path}/link/../photos",
        f"file://{tmp_path}/link/../photos",
        f"{tmp_path}/link/../photos/",
    ):
        assert local_path(url) == far
    assert local_path(f"{tmp_path}/link/../photos/*.jpg") == far / "*.jpg"
    assert local_path(f"{tmp_path}/link/..") == far.parent
    assert (
        local_path(f"{tmp_path}/photos/../link/x") == tmp_path / "link" / "x"
    )  # a link without .. stays
