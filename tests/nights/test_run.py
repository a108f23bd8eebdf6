"""Run from end to end, on real photos with real weights; check what is published and what not."""

import json
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from PIL import Image

from pipeline import search, verify
from pipeline.state.run import Run
from pipeline.state.summary import Summary
from pipeline.steps.reconcile import check_failure_rate
from tests.helpers.runs import make_folder, read_errors, read_features, vectors
from transforms.errors import Refused, UserError
from transforms.records import features_schema


def labels(output):
    table = read_features(output)
    return {
        Path(uri).stem: label
        for uri, label in zip(*(table[c].to_pylist() for c in ("uri", "label")), strict=True)
    }


def test_real_photos_get_their_labels(photos, run, tmp_path):
    summary = run(photos)
    assert summary.published
    assert summary.balanced
    assert summary.listed == summary.embedded + summary.failed > 25
    found = labels(tmp_path / "out")
    assert (found["chelsea"], found["coffee"], found["camera"]) == (
        "Egyptian cat",
        "espresso",
        "tripod",
    )
    errors = read_errors(tmp_path / "out")
    assert len(errors) == summary.failed
    assert len(found) == summary.embedded
    assert not {Path(e["uri"]).stem for e in errors} & set(found)


def test_the_tables_have_exactly_the_promised_columns(folder, run, tmp_path):
    (folder / "broken.jpg").write_bytes(b"not an image")
    run(folder, max_failure_rate=0.5)
    table = read_features(tmp_path / "out")
    assert table.schema.remove_metadata().equals(features_schema(1280))
    assert table.schema.field("embedding").type == pa.list_(
        pa.field("element", pa.float32(), nullable=False), 1280
    )
    row = table.slice(0, 1).to_pylist()[0]
    stat = Path(row["uri"]).stat()
    assert row["size"] == stat.st_size
    assert row["format"] == "JPEG"
    assert (row["width"], row["height"]) == Image.open(row["uri"]).size
    assert row["labels"][0] == {
        "index": row["labels"][0]["index"],
        "label": row["label"],
        "score": row["score"],
    }
    assert [entry["score"] for entry in row["labels"]] == sorted(
        (e["score"] for e in row["labels"]), reverse=True
    )
    assert len(row["labels"]) == 5
    [error] = read_errors(tmp_path / "out")
    assert (error["stage"], error["kind"], error["attempts"]) == ("decode", "not_an_image", 1)
    columns = "uri etag size modified stage kind message attempts first_failed_at recipe run_id"
    assert list(error) == columns.split()


def test_a_part_explains_itself(folder, run, tmp_path):
    run(folder)
    part = next((tmp_path / "out" / "features").glob("part-*.parquet"))
    file = pq.ParquetFile(part)
    recipe = json.loads(file.schema_arrow.metadata[b"image-features.recipe"])
    assert recipe["backbone"] == "efficientnet_lite0"
    assert recipe["resize"] == "squash"
    assert "embedding.list.element" in [file.schema.column(i).path for i in range(len(file.schema))]
    uris = file.read()["uri"].to_pylist()
    assert uris == sorted(uris)


def test_a_second_run_embeds_nothing_and_publishes_nothing(folder, run, tmp_path):
    (folder / "broken.jpg").write_bytes(b"not an image")
    first = run(folder, max_failure_rate=0.5)
    second = run(folder, max_failure_rate=0.5)
    assert str(first) == (
        "listed 7 = new 7 + changed 0 + unchanged 0 + retried 0; removed 0; embedded 6, reused 0, "
        "failed 1"
    )
    assert str(second) == (
        "listed 7 = new 0 + changed 0 + unchanged 6 + retried 0 + still failed 1; removed 0; "
        "embedded 0, reused 0, failed 0"
    )
    assert second.still_failed == 1
    assert not second.published
    assert DeltaTable(tmp_path / "out/features").version() == 0


def test_new_changed_and_mended_images_are_done_and_only_they(folder, run, tmp_path, photos):
    (folder / "broken.jpg").write_bytes(b"not an image")
    run(folder, max_failure_rate=0.5)
    before = read_features(tmp_path / "out")
    make_folder(folder / "more", photos, "cell")
    Image.open(photos / "coffee.png").convert("RGB").save(folder / "chelsea.jpg")
    Image.open(photos / "camera.png").convert("RGB").save(folder / "broken.jpg")
    summary = run(folder, max_failure_rate=0.5)
    assert str(summary) == (
        "listed 8 = new 1 + changed 2 + unchanged 5 + retried 0; removed 0; embedded 3, reused 0, "
        "failed 0"
    )
    found = labels(tmp_path / "out")
    assert (found["chelsea"], found["broken"]) == ("espresso", "tripod")
    after = read_features(tmp_path / "out")
    assert len(after["uri"].unique()) == after.num_rows == 8
    assert read_errors(tmp_path / "out") == []
    unchanged = [uri for uri in before["uri"].to_pylist() if not uri.endswith("chelsea.jpg")]
    for uri in unchanged:
        old, new = (t.filter(pa.compute.equal(t["uri"], uri)) for t in (before, after))
        assert old.equals(new)


def test_an_image_that_breaks_leaves_the_features(folder, run, tmp_path):
    run(folder)
    (folder / "chelsea.jpg").write_bytes((folder / "chelsea.jpg").read_bytes()[:2000])
    summary = run(folder, max_failure_rate=1)
    assert str(summary) == (
        "listed 6 = new 0 + changed 1 + unchanged 5 + retried 0; removed 0; embedded 0, reused 0, "
        "failed 1"
    )
    assert "chelsea" not in labels(tmp_path / "out")
    assert read_errors(tmp_path / "out")[0]["kind"] == "truncated"


def test_another_recipe_is_refused_field_by_field_and_rebuilt_on_demand(folder, run, tmp_path):
    run(folder)
    with pytest.raises(Refused, match="resize: squash → crop") as error:
        run(folder, resize="crop")
    assert "--rebuild" in str(error.value)
    assert "backbone" not in str(error.value).split("recipe: ")[1].split(". ")[0]
    assert DeltaTable(tmp_path / "out/features").version() == 0
    summary = run(folder, resize="crop", rebuild=True)
    assert summary.embedded == 6
    assert DeltaTable(tmp_path / "out/features").version() == 1
    assert read_features(tmp_path / "out").num_rows == 6
    assert len(read_features(tmp_path / "out")["recipe"].unique()) == 1


def test_a_resize_of_an_earlier_version_is_not_taken_for_the_one_of_today(
    folder, run, tmp_path, monkeypatch
):
    """Today's pixels are others: they would only look like the old ones."""
    out, old = tmp_path / "out", {"resize": "crop", "resize_kernel": "bilinear-antialias-8bit"}
    with monkeypatch.context() as before:
        before.setattr("pipeline.steps.session.resize_fields", lambda _: old)
        run(folder, resize="crop")
    with pytest.raises(Refused, match="resize_kernel: bilinear-antialias-8bit → bilinear-anti"):
        run(folder, resize="crop")
    with pytest.raises(UserError, match="by an earlier version, which resized images by bilinear"):
        search(out, image=str(folder / "chelsea.jpg"))
    [problem] = verify(out, sample=2).problems
    assert "by an earlier version, which resized images by bilinear" in problem.what
    run(folder, resize="crop", rebuild=True)
    assert search(out, image=str(folder / "chelsea.jpg"))["score"][0].as_py() > 0.9999
    assert not list(verify(out, sample=2).problems)


@pytest.mark.parametrize(
    ("kinds", "refused"),
    [
        # One of three new images, of a thousand listed: tomorrow it would be the same.
        ({"corrupt": 1}, False),
        ({"corrupt": 1, "empty": 2}, False),
        # One of three images: the storage failed, which may be transient.
        ({"io_error": 1}, True),
        ({"corrupt": 1, "permission_denied": 1}, True),
    ],
)
def test_bad_images_of_a_quiet_night_do_not_stop_it(kinds, refused):
    run = Run(
        "run", "", ("photos",), {}, plan=Summary("run", listed=1000, new=3, unchanged=997, todo=3)
    )
    summary = replace(run.plan, failed=sum(kinds.values()), failures_by_kind=kinds)
    with pytest.raises(Refused, match="of 3 images failed") if refused else nullcontext():
        check_failure_rate(run, summary, Counter(), 0.1)
    with pytest.raises(Refused, match="of 3 images failed"):
        check_failure_rate(run, summary, Counter(), 0)


def test_too_many_failures_are_refused_and_leave_the_table_as_it_was(folder, run, tmp_path):
    run(folder)
    (folder / "empty.jpg").write_bytes(b"")
    with pytest.raises(
        Refused, match=r"1 of 1 images failed \(empty 1\), more than --max-failure-rate 0.1"
    ):
        run(folder)
    assert DeltaTable(tmp_path / "out/features").version() == 0
    assert read_errors(tmp_path / "out") == []
    assert run(folder, max_failure_rate=1).published


def test_no_match_says_what_was_looked_for(tmp_path, run):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    with pytest.raises(
        UserError,
        match=r"no image in .*texts: looked in .*"
        r"\(1 other files, or links to elsewhere, were ignored\)",
    ):
        run(tmp_path / "texts")
    with pytest.raises(UserError, match=r"nothing matches .*\*\.png"):
        run(tmp_path / "texts/*.png")


def test_a_dry_run_writes_nothing(folder, run, tmp_path):
    summary = run(folder, dry_run=True)
    assert (summary.listed, summary.todo, summary.published) == (6, 6, False)
    assert not (tmp_path / "out").exists()


def test_vectors_do_not_depend_on_neighbours_or_order(folder, run, tmp_path):
    together = run(folder, tmp_path / "together")
    assert together.embedded == 6
    run(sorted(folder.iterdir(), reverse=True)[:3], tmp_path / "three", shard_size=2)
    run(folder / "chelsea.jpg", tmp_path / "alone")
    all_rows = read_features(tmp_path / "together")
    by_uri = dict(zip(all_rows["uri"].to_pylist(), vectors(all_rows), strict=True))
    for name in ("three", "alone"):
        table = read_features(tmp_path / name)
        for uri, vector in zip(table["uri"].to_pylist(), vectors(table), strict=True):
            np.testing.assert_allclose(vector, by_uri[uri], atol=1e-5)


def test_an_unfinished_run_is_resumed(folder, run, tmp_path, monkeypatch):
    """The second shard fails for an outside reason; the next start does only the missing shard."""
    import transforms.extract

    real, done = transforms.extract._extract, []

    def fails_at_the_second(shard, *rest):
        if done:
            raise OSError("No space left on device")
        done.append(shard)
        return real(shard, *rest)

    monkeypatch.setattr(transforms.extract, "_extract", fails_at_the_second)
    with pytest.raises(
        Exception, match=r"No space left on device.*Run the same command again"
    ) as error:
        run(folder, shard_size=2)
    assert type(error.value).__name__ == "RunFailed"
    assert not (tmp_path / "out/features/_delta_log").exists()
    shards = []
    monkeypatch.setattr(
        transforms.extract,
        "_extract",
        lambda shard, *rest: shards.append(shard) or real(shard, *rest),
    )
    summary = run(folder, shard_size=2)
    assert summary.embedded == 6
    assert len(shards) == 2
    assert read_features(tmp_path / "out").num_rows == 6


@pytest.mark.usefixtures("own_engines")
def test_an_engine_that_overlaps_gives_the_same_table(folder, run, tmp_path, monkeypatch):
    """As on a GPU, the next images are decoded while these are computed."""
    import transforms.extract
    from transforms.engines.openvino_engine import OpenVinoEngine

    (folder / "broken.jpg").write_bytes(b"not an image")
    run(folder, tmp_path / "in-turn", max_failure_rate=0.5, engine="openvino")
    monkeypatch.setattr(OpenVinoEngine, "accelerated", True)
    monkeypatch.setattr(transforms.extract, "_CHUNK_BYTES", 1)
    monkeypatch.setattr("transforms.engines.openvino_engine._BATCH", 2)
    run(folder, tmp_path / "overlapped", max_failure_rate=0.5, engine="openvino")
    one, two = (read_features(tmp_path / name) for name in ("in-turn", "overlapped"))
    assert one["uri"].equals(two["uri"])
    np.testing.assert_allclose(vectors(one), vectors(two), atol=1e-5)
    assert [e["uri"] for e in read_errors(tmp_path / "overlapped")] == [str(folder / "broken.jpg")]
