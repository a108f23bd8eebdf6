"""Run the whole job on ``gs://``, with the emulator's variable or ``--store``."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.maintenance.rollback import rollback
from pipeline.maintenance.verify import verify
from transforms.storage import open_storage

SERVER = str(Path(__file__).parents[1] / "helpers/google_server.py")
KEYS = ["a b.jpg", "ünï/日本.jpg", "100%.jpg", "a%2Fb.jpg", "c#d.jpg", "q?x=1&y.jpg"]


@pytest.fixture
def google():
    """Start a server with a bucket, and yield its endpoint."""
    words = [sys.executable, SERVER]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as server:
        endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        urllib.request.urlopen(
            urllib.request.Request(f"{endpoint}/photos", method="PUT"), timeout=30
        ).close()
        yield endpoint
        server.stdin.close()


def test_from_bucket_to_bucket_and_again(google, folder, run, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
    bucket = open_storage("gs://photos")
    for key, path in zip(KEYS, sorted(folder.iterdir()), strict=True):
        bucket.write(f"in/{key}", path.read_bytes())
    assert run("gs://photos/in", "gs://photos/out").embedded == 6
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    stores = (f"gs://,endpoint={google},anonymous=true",)
    bucket = open_storage("gs://photos", stores)
    bucket.delete(f"in/{KEYS[0]}")
    bucket.write("in/new.jpg", bucket.read(f"in/{KEYS[1]}"))
    second = run("gs://photos/in", "gs://photos/out", stores=stores)
    assert (second.unchanged, second.reused, second.removed) == (5, 1, 1)
    options = open_storage("gs://photos/out", stores).delta_options
    uris = DeltaTable("gs://photos/out/features", storage_options=options).to_pyarrow_table(
        columns=["uri"]
    )["uri"]
    assert sorted(uris.to_pylist()) == sorted(
        f"gs://photos/in/{key}" for key in [*KEYS[1:], "new.jpg"]
    )
    assert verify("gs://photos/out", sample=2, stores=stores).clean
    rollback("gs://photos/out", 0, stores=stores)
    assert verify("gs://photos/out", stores=stores).rows == 6


def test_only_one_writes_what_is_absent(google):
    bucket = open_storage("gs://photos", (f"gs://photos,endpoint={google},anonymous=true",))
    assert bucket.write_if_absent("claim", b"first")
    assert not bucket.write_if_absent("claim", b"second")
    assert bucket.read("claim") == b"first"
