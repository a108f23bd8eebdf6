"""Two runs at once in one process: each has its own buckets and its own network."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import boto3
import pytest

from tests.helpers.s3_server import serve_s3
from transforms.storage import open_storage


def test_each_run_reads_and_writes_where_its_own_stores_are(run, folder, s3_endpoint, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    files = sorted(folder.iterdir())
    with serve_s3() as other_endpoint:
        places = [(s3_endpoint, files[:4]), (other_endpoint, files[2:])]
        together = Barrier(len(places))

        def night(endpoint, files):
            client = boto3.session.Session().client(
                "s3", endpoint_url=endpoint, region_name="us-east-1"
            )
            client.create_bucket(Bucket="same-name")
            stores = (f"s3://same-name,endpoint={endpoint},region=us-east-1",)
            bucket = open_storage("s3://same-name", stores)
            for file in files:
                bucket.write(f"in/{file.name}", file.read_bytes())
            together.wait(60)
            first = run("s3://same-name/in", "s3://same-name/out", stores=stores)
            bucket.write("in/again.jpg", files[0].read_bytes())
            second = run("s3://same-name/in", "s3://same-name/out", stores=stores)
            return first.listed, first.embedded, second.unchanged, second.reused, second.version

        with ThreadPoolExecutor(len(places)) as pool:
            nights = list(pool.map(night, *zip(*places, strict=True)))
    assert nights == [(4, 4, 4, 1, 1), (4, 4, 4, 1, 1)]


# TensorFlow is imported, and two networks are exported, by both threads at the same time.
_BOTH = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import pipeline

together = Barrier(2)

def night(output, network):
    together.wait(60)
    config = pipeline.Config.of(inputs=(sys.argv[1],), output=output, **network)
    return pipeline.extract(config).embedded

outputs = [f"{sys.argv[2]}/{name}" for name in ("lite", "mobile")]
networks = [{}, {"backbone": "MobileNetV3Small", "weights": "random"}]
with ThreadPoolExecutor(2) as pool:
    print(*pool.map(night, outputs, networks), *(pipeline.verify(o, 2).clean for o in outputs))
"""


@pytest.mark.slow
def test_two_networks_are_exported_at_once_in_a_fresh_process(folder, tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = [sys.executable, "-c", _BOTH, str(folder), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, env=environment)
    assert done.stdout.split() == ["6", "6", "True", "True"], done.stderr
