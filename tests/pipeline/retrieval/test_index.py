"""The index is never stale: at any moment it gives what exact search gives, or is not used."""

import re
import shutil

import numpy as np
import pyarrow as pa
import pytest

import pipeline
from pipeline.cli import main
from pipeline.indexing import held as held_module
from pipeline.indexing import ivf
from pipeline.indexing import update as update_module
from pipeline.indexing.files import fetch_file
from pipeline.indexing.held import Held
from pipeline.tables import Tables
from pipeline.tables.commit import Commit
from tests.helpers.indexes import assert_agree, facts_of, more_rows
from tests.helpers.outputs import live
from tests.helpers.runs import make_folder, read_features, vectors
from transforms.storage import open_storage

BYTES = pytest.mark.parametrize("width", [2, 1])


def test_an_index_whose_rows_have_all_left(copied):
    rows = Tables.published(open_storage(str(copied))).features
    more_rows(copied, 40, night=1)
    newest = rows.newest()
    old = [part["path"] for part in rows.parts]
    newest.commit(Commit("20261128T000000.000Z-0000", [], old))
    searcher = assert_agree(copied, where="uri <> ''")
    assert "40 rows added since" in str(searcher.view)
    assert_agree(copied)


@BYTES
def test_nights_of_real_photos(width, two_nights, photos, tmp_path):
    images = shutil.copytree(two_nights / "images", tmp_path / "images")
    output = tmp_path / "out"
    night = pipeline.Config(
        inputs=(str(images),),
        output=str(output),
        max_failure_rate=1,
        max_removed_rate=1,
        shard_size=3,
    )
    pipeline.extract(night)
    made = pipeline.index(output, pipeline.IndexConfig(bytes_per_number=width))
    assert (made.done, made.added, made.facts.recall) == ("made", 7, 1.0)
    assert_agree(output)
    # A night that adds, changes and removes.
    make_folder(images / "more", photos, "brick grass")
    shutil.copy(images / "more/brick.jpg", images / "coffee.jpg")
    (images / "rocket.jpg").unlink()
    pipeline.extract(night)
    searcher = assert_agree(output)
    added, removed = "3 rows added since were compared exactly", "2 removed since were left out"
    assert str(searcher.view) == f"index of version 0; {added}; {removed}"
    assert_agree(output, version=0)
    updated = pipeline.index(output)
    assert (updated.done, updated.added, updated.removed) == ("updated", 3, 2)
    assert updated.facts.bytes_per_number == width
    assert str(assert_agree(output).view) == "index of version 1"
    assert_agree(output, version=0)
    pipeline.compact(output)
    searcher = assert_agree(output)
    assert (searcher.view.fresh_parts, searcher.view.standing.rows) == ([], 8)
    pipeline.rollback(output, 0)
    assert_agree(output)
    assert pipeline.index(output).done in ("updated", "made anew")
    assert_agree(output)
    part = output / "features" / live(output)[0]
    part.write_bytes(b"")
    pipeline.repair(output)
    assert_agree(output)
    pipeline.extract(night)
    assert_agree(output)
    assert pipeline.verify(output).clean


@pytest.mark.parametrize("k", [1, 10, 1500])
@BYTES
def test_many_rows(copied, width, k):
    if width == 1:
        assert pipeline.index(copied, pipeline.IndexConfig(bytes_per_number=1)).done == "made anew"
    assert_agree(copied, k=k)
    assert_agree(copied, k=min(k, 10), where="label = 'label 7'")
    assert_agree(copied, k=min(k, 10), where="uri LIKE '%000042.jpg'")
    assert_agree(copied, k=3, where="false")


def remove(output, uris, run_id):
    """Commit a night that removes rows."""
    features = Tables.open(open_storage(str(output))).features
    parts, old = features.rewrite_without(pa.array(uris), run_id, {"backbone": "made"})
    features.commit(Commit(run_id, parts, old))


def test_updates_write_little_and_join_in_time(copied):
    first = facts_of(copied)
    more_rows(copied, 100, night=1)
    remove(copied, [f"/made/0000/{row:08d}.jpg" for row in range(50)], "20261126T000002.000Z-0000")
    assert_agree(copied)
    second = pipeline.index(copied)
    assert (second.done, second.added, second.removed) == ("updated", 100, 50)
    # The large file is that of the first index.
    assert second.facts.vectors[0] == first.vectors[0]
    assert len(second.facts.vectors) == 2
    assert pipeline.index(copied).done == "unchanged"
    assert_agree(copied)
    more_rows(copied, 150, night=3)
    third = pipeline.index(copied)
    assert third.done == "updated"
    assert len(third.facts.vectors) == 1
    assert third.facts.trained_on == 1500
    searcher = assert_agree(copied)
    assert (searcher.rows, str(searcher.view)) == (1700, f"index of version {third.facts.version}")
    gone = [f"/made/0000/{row:08d}.jpg" for row in range(50, 700)]
    remove(copied, gone, "20261126T000004.000Z-0000")
    assert_agree(copied)
    fourth = pipeline.index(copied)
    assert (fourth.removed, len(fourth.facts.vectors)) == (650, 1)
    assert fourth.facts.vectors[0].size < 0.75 * third.facts.vectors[0].size
    assert_agree(copied)
    assert_held_is_exact(copied)


def assert_held_is_exact(output):
    """Compare the kept results of the held queries with a full search."""
    storage = open_storage(str(output))
    facts = facts_of(output)
    held = Held.read(fetch_file(storage, facts, facts.held))
    assert len(held.queries) > 100
    table = read_features(output)
    matrix = vectors(table)
    matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    scores = np.sort(held.queries @ matrix.T, axis=1)[:, ::-1]
    # The first one is the row itself, unless it has been removed.
    own = scores[:, 0] > 1 - 1e-5
    expected = np.where(own[:, None], scores[:, 1:11], scores[:, :10])
    np.testing.assert_allclose(held.scores[:, :10], expected, atol=1e-5)


def test_it_is_made_anew_when_rows_double_or_recall_falls(copied, monkeypatch, caplog):
    caplog.set_level("INFO")
    more_rows(copied, 1600, night=1)
    result = pipeline.index(copied)
    assert (result.done, result.facts.trained_on) == ("made anew", 3100)
    assert "the rows have doubled" in caplog.text
    more_rows(copied, 100, night=2)
    monkeypatch.setattr(update_module, "MIN_RECALL", 1.01)
    assert pipeline.index(copied).done == "made anew"
    assert "the recall has fallen" in caplog.text
    assert_agree(copied)


def test_held_queries_stay_exact(monkeypatch):
    # So few that removals exhaust them, and some queries are dropped.
    monkeypatch.setattr(held_module, "_KEPT", 15)
    random = np.random.default_rng(3)
    matrix = np.abs(random.standard_normal((900, 24), np.float32))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    alive = np.zeros(900, bool)
    held = Held.of(matrix[:40], np.arange(40))
    for start in range(0, 900, 90):
        held.add(matrix[start : start + 90], np.arange(start, start + 90))
        alive[start : start + 90] = True
        gone = random.choice(np.flatnonzero(alive), 40, replace=False)
        held.remove(gone)
        alive[gone] = False
        for row, own in enumerate(held.own):
            scores = matrix @ held.queries[row]
            scores[~alive] = -np.inf
            scores[own] = -np.inf
            expected = np.sort(scores)[::-1][:10]
            np.testing.assert_allclose(held.scores[row][:10], expected, atol=1e-6)
    assert 0 < len(held.own) < 40
    right = {tuple(query): ids for query, ids in zip(held.queries, held.ids, strict=True)}
    assert held.recall(lambda queries, k: np.array([right[tuple(q)][:k] for q in queries])) == 1
    assert held.recall(lambda queries, k: np.array([right[tuple(q)][5:15] for q in queries])) == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index-bytes", "3"], "invalid choice: 3"),
        (["--table", "other"], "no run has published a table features-other"),
    ],
)
def test_a_mistake_gets_one_line(options, message, copied, capsys):
    assert main(["index", str(copied), *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_no_rows(tmp_path, capsys):
    assert main(["index", str(tmp_path)]) == 2
    assert "no run has published there" in capsys.readouterr().err


def test_the_command_prints_the_recall(copied, capsys):
    assert main(["index", str(copied)]) == 0
    text = capsys.readouterr().out
    assert "unchanged: index of version 0" in text
    assert "recall@10" in text
    assert "150 held queries" in text


def test_a_query_finds_the_same_when_the_cores_share_it(copied, monkeypatch):
    searcher = pipeline.Searcher(str(copied))
    queries = vectors(searcher.table.read(["embedding"]))[:5]
    alone = [searcher.nearest(query, 10)[0] for query in queries]
    monkeypatch.setattr(ivf, "_SHARED", 0)
    shared = [searcher.nearest(query, 10)[0] for query in queries]
    for one, other in zip(alone, shared, strict=True):
        assert one["uri"].equals(other["uri"])
        np.testing.assert_allclose(one["score"], other["score"], atol=1e-6)


def test_show_tells_what_the_index_stands_for(copied, capsys):
    assert re.search(
        r"^index       1,500 rows, \S+ MB, recall@10 [01]\.\d{4}; up to date$",
        str(pipeline.show(copied)),
        re.MULTILINE,
    )
    more_rows(copied, 100, night=1)
    assert "; of version 0, the newest is 1" in str(pipeline.show(copied))
    (copied / "index/features/v0.json").write_text("\x1b[31m{")
    assert main(["show", str(copied)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^index       .*v0.json is damaged: ", said, re.MULTILINE)
    assert "\x1b" not in said
