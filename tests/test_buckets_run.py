"""The whole job in a bucket: input and output on a real S3 server, over the command's own function."""

import pyarrow as pa
import pytest
from conftest import vectors
from deltalake import DeltaTable

from transforms.errors import Refused
from transforms.storage import PermissionDenied, open_storage, storage_options


@pytest.fixture
def bucket(s3, folder):
    for path in folder.iterdir():
        s3.put(f"photos/deep er/{path.name}", path.read_bytes())
    s3.put("photos/readme.txt")
    return s3


def table(s3, columns=None):
    url = f"{s3.url}/out/features"
    return DeltaTable(url, storage_options=storage_options(url)).to_pyarrow_table(columns=columns).sort_by("uri")


def test_from_bucket_to_bucket_and_again(bucket, run, folder, tmp_path):
    first = run(f"{bucket.url}/photos", f"{bucket.url}/out")
    assert (first.listed, first.embedded, first.failed) == (6, 6, 0)
    rows = table(bucket)
    assert rows["uri"].to_pylist() == sorted(f"{bucket.url}/photos/deep er/{path.name}" for path in folder.iterdir())
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


def test_two_runs_at_once_do_not_mix(bucket, run, monkeypatch):
    """The second run publishes while the first one is still at work: the first refuses, and heals afterwards."""
    import pipeline.run

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


def test_secrets_are_written_nowhere(bucket, run, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-secret")
    run(f"{bucket.url}/photos", f"{bucket.url}/out")
    output = open_storage(f"{bucket.url}/out")
    assert not [entry.key for entry in output.list() if b"hunter2" in output.read(entry.key)]
