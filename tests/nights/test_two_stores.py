"""Two concurrent runs in one process use buckets of the same name on two servers."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import boto3

from tests.helpers.s3_server import serve_s3
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.storage import open_storage


def test_each_run_reads_and_writes_where_its_own_stores_are(run, folder, s3_endpoint, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    import_tensorflow()
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
