"""Whole nights over containers: new, unchanged, changed, removed and damaged ones."""

import io
import shutil
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from deltalake import DeltaTable

import pipeline
from tests.helpers.runs import make_folder
from tests.transforms.containers.test_tfrecord import example
from transforms.errors import UserError
from transforms.storage import open_storage

KINDS = ["a.tar", "b.tgz", "c.zip", "d.tfrecord", "e.parquet"]


def make(name, photos):
    """Return a container with photos, a mapping of names to bytes."""
    made = io.BytesIO()
    if name.endswith(("tar", "tgz")):
        with tarfile.open(fileobj=made, mode="w:gz" if name.endswith("tgz") else "w") as tar:
            for photo, data in photos.items():
                info = tarfile.TarInfo(photo)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    elif name.endswith("zip"):
        with zipfile.ZipFile(made, "w") as archive:
            for photo, data in photos.items():
                archive.writestr(photo, data)
    elif name.endswith("parquet"):
        pq.write_table(pa.table({"jpg": list(photos.values())}), made)
    else:
        raise ValueError(name)
    return made.getvalue()


def make_records(path, photos):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for data in photos.values():
            writer.write(example(image__encoded=data))
    return path.read_bytes()


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory, photos):
    folder = make_folder(tmp_path_factory.mktemp("jpegs") / "x", photos, "chelsea coffee rocket")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    """Where containers are put, the url of the place, the url of the output, and a deletion."""
    if request.param == "disk":
        folder = tmp_path / "in"
        folder.mkdir()
        return (
            lambda name, data: (folder / name).write_bytes(data),
            str(folder),
            str(tmp_path / "out"),
            lambda name: (folder / name).unlink(),
        )
    s3 = request.getfixturevalue("s3")
    return (
        lambda name, data: s3.put(f"in/{name}", data),
        f"{s3.url}/in",
        f"{s3.url}/out",
        lambda name: s3.client.delete_object(Bucket=s3.bucket, Key=f"in/{name}"),
    )


def rows(output, table="features"):
    url = f"{output}/{table}"
    delta = DeltaTable(url, storage_options=open_storage(url).delta_options)
    return {row["uri"]: row for row in delta.to_pyarrow_table().to_pylist()}


def test_nights_over_every_kind(place, jpegs, run, tmp_path):
    put, base, output, delete = place
    inputs = [f"{base}/{name}" for name in KINDS]
    for name in KINDS:
        data = (
            make_records(tmp_path / "records", jpegs) if name == "d.tfrecord" else make(name, jpegs)
        )
        put(name, data)
    first = run(inputs, output)
    # The photos are the same in all containers: each is computed once or found again.
    assert (first.listed, first.embedded + first.reused, first.failed) == (15, 15, 0)
    found = rows(output)
    for name in KINDS:
        numbered = name.startswith(("d", "e"))
        for number, photo in enumerate(jpegs):
            row = found[f"{base}/{name}::{f'{number:06d}' if numbered else photo}"]
            assert row["embedding"] == found[f"{base}/a.tar::{photo}"]["embedding"]
            assert row["size"] == len(jpegs[photo])
    assert found[f"{base}/a.tar::coffee.jpg"]["label"] == "espresso"

    second = run(inputs, output)
    assert (second.unchanged, second.tried, second.published) == (15, 0, False)

    # One member less, one changed and one new; the others have the same bytes.
    swapped = {"new.jpg": jpegs["coffee.jpg"], **jpegs, "rocket.jpg": jpegs["chelsea.jpg"]}
    del swapped["coffee.jpg"]
    put("a.tar", make("a.tar", swapped))
    third = run(inputs, output)
    assert (third.listed, third.new, third.changed, third.removed) == (15, 1, 2, 1)
    assert (third.reused, third.embedded, third.failed) == (3, 0, 0)
    assert third.balanced
    now = rows(output)
    assert f"{base}/a.tar::coffee.jpg" not in now
    assert now[f"{base}/a.tar::new.jpg"]["label"] == "espresso"

    checked = pipeline.verify(output, sample=15)
    assert checked.clean, str(checked)
    assert "15 vectors are the same" in str(checked)
    stages = str(pipeline.trace(f"{base}/b.tgz::coffee.jpg"))
    assert "espresso" in stages

    delete("e.parquet")
    with pytest.raises(UserError):
        run(inputs, output)
    assert len(rows(output)) == 15


def test_a_damaged_container_costs_what_follows_and_mends(place, jpegs, run):
    put, base, output, _ = place
    whole = make("a.tar", jpegs)
    put("a.tar", whole[: 512 + len(jpegs["chelsea.jpg"]) + 3000])
    options = {"max_failure_rate": 0.5, "max_removed_rate": 1}
    first = run(f"{base}/a.tar", output, **options)
    assert (first.listed, first.embedded, first.failed) == (2, 1, 1)
    (row,) = rows(output, "errors").values()
    assert (row["uri"], row["stage"], row["kind"]) == (f"{base}/a.tar", "read", "truncated")
    again = run(f"{base}/a.tar", output, **options)
    assert (again.still_failed, again.tried) == (1, 0)
    put("a.tar", whole)
    mended = run(f"{base}/a.tar", output, **options)
    assert (mended.listed, mended.failed, mended.removed) == (3, 0, 1)
    assert rows(output, "errors") == {}


@pytest.mark.parametrize("kind", ["a.tar", "b.tgz", "e.parquet"])
def test_a_container_that_is_replaced_after_the_plan(place, jpegs, run, kind):
    put, base, output, _ = place
    put(kind, make(kind, jpegs))
    config = {"inputs": (f"{base}/{kind}",), "output": output, "max_failure_rate": 1.0}
    pipeline.plan_run(pipeline.Config(**config))
    put(kind, make(kind, dict(reversed(jpegs.items()))) + bytes(512) * (kind != "e.parquet"))
    summary = run(f"{base}/{kind}", output, planned=True, max_failure_rate=1.0)
    assert (summary.failed, summary.failures_by_kind) == (3, {"changed": 3})
    published = run(f"{base}/{kind}", output, max_failure_rate=1.0)
    assert (published.failed, published.published) == (3, True)
    mended = run(f"{base}/{kind}", output)
    assert (mended.embedded, mended.failed) == (3, 0)


def test_two_runs_at_once_on_one_output(jpegs, tmp_path):
    (tmp_path / "a.tar").write_bytes(make("a.tar", jpegs))
    config = pipeline.Config(inputs=(f"{tmp_path}/a.tar",), output=str(tmp_path / "out"))
    with ThreadPoolExecutor(2) as pool:
        outcomes = [pool.submit(pipeline.extract, config) for _ in range(2)]
    assert any(outcome.exception() is None for outcome in outcomes)
    assert len(rows(tmp_path / "out")) == 3


def test_damaged_and_foreign_indexes_do_no_harm(jpegs, run, tmp_path):
    (tmp_path / "a.tar").write_bytes(make("a.tar", jpegs))
    run(tmp_path / "a.tar")
    (index,) = (tmp_path / "out/containers").iterdir()
    good = index.read_bytes()
    for data in (b"", good[:100], b"foreign"):
        index.write_bytes(data)
        summary = run(tmp_path / "a.tar")
        assert (summary.unchanged, summary.tried) == (3, 0)
        assert index.read_bytes() == good
    shutil.rmtree(tmp_path / "out/containers")
    assert run(tmp_path / "a.tar").unchanged == 3


def test_vacuum_keeps_the_index_and_names_a_foreign_file(jpegs, run, tmp_path):
    (tmp_path / "a.tar").write_bytes(make("a.tar", jpegs))
    run(tmp_path / "a.tar")
    (index,) = (tmp_path / "out/containers").iterdir()
    (tmp_path / "out/containers/mine.txt").write_text("mine")
    freed = pipeline.vacuum(str(tmp_path / "out"), timedelta(0))
    assert index.exists()
    assert freed.left_alone == ("containers/mine.txt",)


def test_a_folder_says_how_to_take_its_containers(jpegs, run, tmp_path, caplog):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tar").write_bytes(make("a.tar", jpegs))
    with pytest.raises(UserError, match=r"1 containers .* --input 'FOLDER/"):
        run(folder)
    (folder / "coffee.jpg").write_bytes(jpegs["coffee.jpg"])
    with caplog.at_level("WARNING"):
        summary = run(folder)
    assert (summary.listed, summary.ignored) == (1, 1)
    assert "add a glob that ends like their names" in caplog.text


@pytest.mark.parametrize("workers", [(), ("--direct_running_mode=multi_processing",)])
def test_a_wrong_column_is_said_in_one_line(jpegs, tmp_path, capfd, workers):
    (tmp_path / "a.parquet").write_bytes(make("a.parquet", jpegs))
    config = pipeline.Config(
        inputs=(f"{tmp_path}/a.parquet",),
        output=str(tmp_path / "out"),
        image_column="photo",
        beam_args=workers,
    )
    with pytest.raises(UserError) as raised:
        pipeline.extract(config)
    assert str(raised.value).endswith("jpg; name one with --image-column")
    assert "Traceback" not in capfd.readouterr().err


def test_a_member_that_is_not_there_is_not_traced(jpegs, tmp_path):
    (tmp_path / "a.tar").write_bytes(make("a.tar", jpegs))
    with pytest.raises(UserError, match="no container that holds a member of this name"):
        pipeline.trace(f"{tmp_path}/a.tar::nothing.jpg")


def test_a_row_of_a_named_column_is_traced(jpegs, tmp_path):
    rows = {"left": [jpegs["coffee.jpg"]], "right": [jpegs["chelsea.jpg"]]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="name one with --image-column"):
        pipeline.trace(f"{tmp_path}/a.parquet::000000")
    assert "espresso" in str(pipeline.trace(f"{tmp_path}/a.parquet::000000", image_column="left"))
