"""Run whole jobs over a network that spoils a fifth of all requests: nothing lost or doubled."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.maintenance.compact import compact
from pipeline.maintenance.verify import verify
from pipeline.tables import Tables
from pipeline.tables.commit import Commit
from tests.helpers.runs import vectors
from transforms.errors import RunFailed
from transforms.read import ReadPolicy, read_images
from transforms.records import ImageReference
from transforms.sources import parse_input
from transforms.storage import open_storage
from transforms.storage.base import StorageError
from transforms.storage.bucket import Bucket

PROXY = str(Path(__file__).parents[1] / "helpers/faulty_proxy.py")


@pytest.fixture
def spoiled(s3, s3_endpoint, monkeypatch):
    """Send the block's requests through the proxy; afterwards the dictionary says what it did."""

    @contextmanager
    def through(seed, rate=0.2, max_in_a_row=4, faults=()):
        port = s3_endpoint.rsplit(":", 1)[1]
        words = [sys.executable, PROXY, port, str(rate), seed, str(max_in_a_row), *faults]
        done = {}
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as proxy:
            with monkeypatch.context() as patch:
                patch.setenv(
                    "AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.stdout.readline().strip()}"
                )
                yield done
            done.update(json.loads(proxy.communicate("", timeout=30)[0]))

    return through


def table(url):
    return (
        DeltaTable(f"{url}/features", storage_options=open_storage(url).delta_options)
        .to_pyarrow_table()
        .sort_by("uri")
    )


@pytest.mark.slow
def test_two_nights_and_a_merge_over_a_bad_network_end_as_over_a_good_one(s3, folder, run, spoiled):
    photos = {path.name: path.read_bytes() for path in folder.iterdir()}
    for number in range(3):
        for name, data in photos.items():
            # The bytes differ, and the picture is the same.
            s3.put(f"in/{number}/{name}", data + bytes([number]))
    s3.put("in/broken.jpg", b"no image")

    def night(output, **options):
        return run(
            f"{s3.url}/in", f"{s3.url}/{output}", shard_size=5, max_failure_rate=1, **options
        )

    with spoiled("first") as done:
        first = night("bad")
    assert (first.listed, first.embedded, first.failed) == (19, 18, 1)
    assert first.failures_by_kind == {"not_an_image": 1}
    s3.client.delete_object(Bucket=s3.bucket, Key="in/0/coffee.jpg")
    s3.put("in/1/camera.jpg", photos["coffee.jpg"])
    with spoiled("second") as again:
        second = night("bad")
        compact(f"{s3.url}/bad")
    assert (second.listed, second.changed, second.removed, second.unchanged) == (18, 1, 1, 16)
    spoilt = [
        sum(count for fault, count in counts.items() if fault != "requests")
        for counts in (done, again)
    ]
    # The network was bad enough.
    assert spoilt[0] > done["requests"] / 10
    assert spoilt[1] > again["requests"] / 10
    assert verify(f"{s3.url}/bad").clean
    night("good")
    bad, good = table(f"{s3.url}/bad"), table(f"{s3.url}/good")
    assert bad["uri"].to_pylist() == good["uri"].to_pylist()
    assert (vectors(bad) == vectors(good)).all()


def test_a_listing_that_breaks_off_goes_on_where_it_was(s3, spoiled):
    """The server has two pages, and the first try of each request for one of them is cut off."""
    store, keys = open_storage(s3.url), [f"p/{number:04d}.jpg" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.write(key, b"x"), keys))
    with spoiled("", rate=1, max_in_a_row=1, faults=["cut"]) as done:
        listed = [
            key
            for page in Bucket("s3", s3.bucket).pages("p", 300)
            for key in page["path"].to_pylist()
        ]
    assert listed == keys
    assert done["cut"] >= 2


@pytest.mark.parametrize("fault", ["lost", "lost503"])
def test_a_create_whose_answer_is_lost_has_created(s3, fault, spoiled):
    """The request is done, and its answer is lost: the next try hears that the object exists."""
    output = open_storage(s3.url)
    with spoiled("", rate=1, max_in_a_row=1, faults=[fault]) as done:
        assert output.write_if_absent("receipt", b"mine")
    assert done[fault] >= 1
    assert s3.get("receipt") == b"mine"
    assert not output.write_if_absent("receipt", b"another's")
    assert s3.get("receipt") == b"mine"


@pytest.mark.parametrize(("fault", "times"), [("409", 1), ("412", 2)])
def test_commits_that_are_refused_though_nobody_else_wrote_are_made(
    s3, run, folder, spoiled, fault, times
):
    """A proxy repeats a request, or S3 answers one of two tries that there was another one."""
    with spoiled("", rate=1, max_in_a_row=times, faults=[fault]) as done:
        first = run(folder, f"{s3.url}/out")
        (folder / "rocket.jpg").unlink()
        second = run(folder, f"{s3.url}/out")
    assert [(night.state, night.version) for night in (first, second)] == [
        ("published", 0),
        ("published", 1),
    ]
    # A receipt and four commits.
    assert done[fault] >= 5 * times
    assert table(f"{s3.url}/out").num_rows == 5
    assert verify(f"{s3.url}/out").clean


def test_a_store_that_refuses_each_commit_is_one_line(s3, spoiled, monkeypatch):
    monkeypatch.setattr("transforms.storage.retries._WAITS", (0.0, 0.0))
    with spoiled("", rate=1, max_in_a_row=99, faults=["412"]) as done:
        errors = Tables.open(open_storage(f"{s3.url}/out")).errors
        with pytest.raises(
            RunFailed, match=r"errors: the store answers each time that the new version is there"
        ):
            errors.commit(Commit("night", []))
    assert done["412"] == 3


def read_all(s3):
    listed = [
        ImageReference(**row)
        for batch in parse_input(f"{s3.url}/in").list_images()
        for row in batch.to_pylist()
    ]
    return list(read_images(listed, ReadPolicy(concurrency=1)))


def test_bytes_that_change_on_the_way_are_read_again(s3, spoiled):
    photos = {f"in/{number}.jpg": bytes([number]) * 1000 for number in range(5)}
    for key, data in photos.items():
        s3.put(key, data)
    with spoiled("", rate=1, max_in_a_row=2, faults=["flip"]) as done:
        assert [image.data for image in read_all(s3)] == list(photos.values())
        assert open_storage(s3.url).read("in/0.jpg") == photos["in/0.jpg"]
    assert done["flip"] >= 12


def test_bytes_that_change_each_time_cost_that_image_only(s3, spoiled, monkeypatch):
    monkeypatch.setattr("transforms.storage.retries._WAITS", (0.01,))
    s3.put("in/0.jpg", b"a" * 1000)
    # An empty object has no byte to change.
    s3.put("in/1.jpg", b"")
    with spoiled("", rate=1, max_in_a_row=99, faults=["flip"]):
        (reference, error), empty = read_all(s3)
    assert (reference.uri, error.kind.word, error.kind.transient) == (
        f"{s3.url}/in/0.jpg",
        "io_error",
        True,
    )
    assert error.message.startswith(
        f"{reference.uri}: the bytes changed on the way, and other ones came each of 3 "
    )
    assert empty.data == b""


@pytest.mark.parametrize(("endpoint", "requests"), [("http", 2), ("https", 1)])
def test_an_etag_that_only_looks_like_an_md5_costs_a_second_read(
    misbehaving, monkeypatch, endpoint, requests
):
    """Encrypted objects have such etags; over https nothing is checked.

    Here https is only what our settings say, not what the server speaks.
    """
    misbehaving.etag = "0123456789abcdef0123456789ABCDEF"
    monkeypatch.setattr("transforms.storage.bucket.plain_http", lambda *_: endpoint == "http")
    [image] = read_images(
        [ImageReference("s3://bucket/fine", misbehaving.etag, len(misbehaving.body), None)]
    )
    assert image.data == misbehaving.body
    assert misbehaving.requests["fine"] == requests


def test_a_server_that_is_not_there_is_one_line_in_seconds(monkeypatch):
    stores = ("s3://bucket,endpoint=http://127.0.0.1:9,anonymous=true,region=us-east-1",)
    refused = (
        r"^s3://bucket/k: no connection to 127\.0\.0\.1:9 \(Connection refused\), "
        r"after 6 retries: see "
    )
    with pytest.raises(StorageError, match=refused):
        open_storage("s3://bucket", stores).read("k")
