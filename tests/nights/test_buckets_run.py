"""Run the whole job in a bucket: input and output on a real S3 server."""

import logging
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipeline.cli import main
from pipeline.maintenance.compact import compact
from pipeline.maintenance.history import history
from pipeline.maintenance.rollback import rollback
from pipeline.maintenance.vacuum import vacuum
from pipeline.maintenance.verify import verify
from pipeline.tables import Tables
from tests.helpers.runs import vectors
from tests.helpers.s3_server import SPECIAL
from transforms.errors import Refused, UserError
from transforms.storage import PermissionDenied, open_storage


@pytest.fixture
def bucket(s3, folder):
    for path in folder.iterdir():
        s3.put(f"photos/deep er/{path.name}", path.read_bytes())
    s3.put("photos/readme.txt")
    return s3


def table(s3, columns=None):
    url = f"{s3.url}/out/features"
    return (
        DeltaTable(url, storage_options=open_storage(url).delta_options)
        .to_pyarrow_table(columns=columns)
        .sort_by("uri")
    )


def test_from_bucket_to_bucket_and_again(bucket, run, folder, tmp_path):
    first = run(f"{bucket.url}/photos", f"{bucket.url}/out")
    assert (first.listed, first.embedded, first.failed) == (6, 6, 0)
    rows = table(bucket)
    assert rows["uri"].to_pylist() == sorted(
        f"{bucket.url}/photos/deep er/{path.name}" for path in folder.iterdir()
    )
    run(folder, tmp_path / "local")
    local = DeltaTable(tmp_path / "local/features").to_pyarrow_table().sort_by("uri")
    assert rows["embedding"].to_pylist() == local["embedding"].to_pylist()
    bucket.put("photos/deep er/coffee.jpg", (folder / "camera.jpg").read_bytes())
    bucket.put("photos/broken.jpg", b"broken")
    second = run(f"{bucket.url}/photos/**/*.jpg", f"{bucket.url}/out", max_failure_rate=0.5)
    assert (second.listed, second.changed, second.new, second.unchanged) == (7, 1, 1, 5)
    labels = dict(zip(*(table(bucket)[name].to_pylist() for name in ("uri", "label")), strict=True))
    assert labels[f"{bucket.url}/photos/deep er/coffee.jpg"] == "tripod"
    third = run(f"{bucket.url}/photos", f"{bucket.url}/out")
    assert (third.embedded, third.published) == (0, False)


def test_the_files_in_the_bucket_keep_the_fixed_size_vector(bucket, run):
    run(f"{bucket.url}/photos", f"{bucket.url}/out")
    import pyarrow.parquet as pq

    [part] = [key for key in sorted(bucket.keys()) if key.startswith("out/features/part-")]
    read = pq.read_table(pa.BufferReader(bucket.get(part)))
    assert vectors(read).shape == (6, 1280)
    assert read.schema.field("embedding").type.list_size == 1280


@pytest.mark.parametrize("named", ["by the environment", "by --store"])
def test_the_lines_that_show_prints_read_the_table(named, bucket, run, monkeypatch, capsys):
    run(f"{bucket.url}/photos", f"{bucket.url}/out")
    words = ["show", f"{bucket.url}/out", "--rows", "1"]
    if named == "by --store":
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        words += ["--store", f"s3://{bucket.bucket},endpoint={endpoint}"]
    capsys.readouterr()
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "testing" not in out
    lines = re.findall(r"^  (?:pyarrow|pandas|DuckDB) +(.*)$", out, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        imports, _, expression = line.rpartition("; ")
        names: dict[str, object] = {}
        exec(imports, names)
        assert len(eval(expression, names)) == 6


def test_two_runs_at_once_do_not_mix(bucket, run, monkeypatch):
    """The second run publishes while the first one runs: the first refuses, and heals later."""
    import pipeline.run
    import pipeline.steps.extract

    real = pipeline.run.publish

    def late(*arguments):
        monkeypatch.setattr(pipeline.run, "publish", real)
        run(f"{bucket.url}/photos/deep er/coffee.jpg", f"{bucket.url}/out")
        return real(*arguments)

    monkeypatch.setattr(pipeline.run, "publish", late)
    with pytest.raises(Refused, match="another run published"):
        run(f"{bucket.url}/photos", f"{bucket.url}/out")
    assert table(bucket, ["uri"]).num_rows == 1
    assert run(f"{bucket.url}/photos", f"{bucket.url}/out").embedded == 5
    uris = table(bucket, ["uri"])["uri"]
    assert len(uris.unique()) == len(uris) == 6


def test_no_credentials_are_one_clear_line(bucket, run, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(PermissionDenied, match="set AWS_ACCESS_KEY_ID"):
        run(f"{bucket.url}/photos", f"{bucket.url}/out")


SECRET = "hunter2-secret"


def test_secrets_are_written_nowhere(bucket, run, monkeypatch, tmp_path, capfd, caplog):
    """Check output, logs, metrics and the workers' job, of a published and of a failed run."""
    import pipeline.run
    import pipeline.steps.extract

    jobs = []
    real = pipeline.steps.extract.extract_shards
    monkeypatch.setattr(
        pipeline.steps.extract,
        "extract_shards",
        lambda *args: (jobs.append(pickle.dumps(args)), real(*args)),
    )
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    caplog.set_level(logging.DEBUG)
    metrics = tmp_path / "metrics.json"
    words = [
        "extract",
        "--input",
        f"{bucket.url}/photos",
        "--metrics-json",
        str(metrics),
        "--output",
    ]
    wrong = ["--store", f"s3://,secret_access_key={SECRET}"]
    signed = ["--store", f"s3://,endpoint=http://user:{SECRET}@127.0.0.1:9"]
    assert main([*words, f"{bucket.url}/out"]) == 0
    assert main([*words, "s3://no-such-bucket/out"]) == 1
    assert main([*words, f"s3://user:{SECRET}@bucket/out"]) == 2
    assert (
        main([*words, f"{bucket.url}/out", *wrong])
        == main([*words, f"{bucket.url}/out", *signed])
        == 2
    )
    bucket.put("photos/broken.jpg", b"broken")
    assert main([*words, f"{bucket.url}/out", "--max-failure-rate", "0"]) == 1
    output = open_storage(f"{bucket.url}/out")
    written = [output.read(entry.key) for entry in output.list()]
    said = [*jobs, metrics.read_bytes(), "".join(capfd.readouterr()).encode(), caplog.text.encode()]
    assert jobs
    assert len(metrics.read_text().splitlines()) >= 3
    assert not [text for text in [*written, *said] if SECRET.encode() in text]


def test_a_second_night_and_the_upkeep_in_a_bucket(bucket, run, folder):
    night = dict(inputs=f"{bucket.url}/photos", output=f"{bucket.url}/out", shard_size=3)
    run(**night)
    bucket.client.delete_object(Bucket=bucket.bucket, Key="photos/deep er/rocket.jpg")
    bucket.put("photos/copy.jpg", (folder / "coffee.jpg").read_bytes())
    second = run(**night)
    assert (second.unchanged, second.removed, second.reused, second.embedded) == (5, 1, 1, 0)
    before = table(bucket)
    assert [str(done.table) for done in compact(f"{bucket.url}/out")] == ["features"]
    assert table(bucket).equals(before)
    assert verify(f"{bucket.url}/out", sample=3).clean
    freed = str(
        vacuum(f"{bucket.url}/out", timedelta(hours=1), now=datetime.now(UTC) + timedelta(days=1))
    )
    assert freed.startswith("freed ")
    assert verify(f"{bucket.url}/out").clean
    assert table(bucket).equals(before)
    with pytest.raises(Refused, match="are not there any more"):
        rollback(f"{bucket.url}/out", 0)
    bucket.put("photos/new.jpg", (folder / "camera.jpg").read_bytes() + b"x")
    assert run(**night).embedded == 1
    rollback(f"{bucket.url}/out", 2)
    assert table(bucket).equals(before)
    assert "rollback to 2" in str(history(f"{bucket.url}/out"))


def test_where_the_buckets_are_reaches_worker_processes(bucket, run, monkeypatch, s3_endpoint):
    """The environment has no endpoint and no region, only credentials: like a remote worker's."""
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    stores = (f"s3://{bucket.bucket},endpoint={s3_endpoint},region=us-east-1",)
    workers = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    done = run(
        f"{bucket.url}/photos", f"{bucket.url}/out", shard_size=3, stores=stores, beam_args=workers
    )
    assert (done.embedded, done.published) == (6, True)
    assert main(["verify", f"{bucket.url}/out", "--store", stores[0]]) == 0


@pytest.mark.slow
def test_any_name_goes_through_the_whole_job(s3, run, folder):
    """Special characters, the longest key, case, a thousand in one prefix, empty "directories"."""
    photos = [path.read_bytes() for path in sorted(folder.iterdir())]
    keys = [f"in #1/{key}" for key in SPECIAL if len(key) < 900]
    # 1024 bytes, the maximum of S3.
    keys += ["in #1/" + "x" * 1014 + ".jpg"]
    keys += [f"in #1/many/{number:05d}.jpg" for number in range(1010)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: s3.put(item[1], photos[item[0] % 6]), enumerate(keys)))
    for key in ("in #1/", "in #1/many/", "in #1/empty/", "in #1/album.jpg/"):
        s3.put(key, b"")
    output = f"{s3.url}/out #2/é?x=1&y/100%"
    done = run(f"{s3.url}/in #1", output)
    assert (done.listed, done.failed) == (len(keys), 0)
    assert done.embedded + done.reused == len(keys)
    rows = Tables.open(open_storage(output)).features.read(["uri", "size", "label"])
    sizes = {f"{s3.url}/{key}": len(photos[number % 6]) for number, key in enumerate(keys)}
    assert dict(zip(rows["uri"].to_pylist(), rows["size"].to_pylist(), strict=True)) == sizes
    labels = dict(zip(rows["uri"].to_pylist(), rows["label"].to_pylist(), strict=True))
    by_photo = [{labels[f"{s3.url}/{key}"] for key in keys[first::6]} for first in range(6)]
    assert [len(found) for found in by_photo] == [1] * 6
    assert len(set.union(*by_photo)) > 3
    assert run(f"{s3.url}/in #1", output).unchanged == len(keys)
    with pytest.raises(UserError, match="an output with '%2F' in its name"):
        run(f"{s3.url}/in #1", f"{s3.url}/a%2Fb")
