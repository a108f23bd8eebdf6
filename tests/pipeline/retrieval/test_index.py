"""The index is never stale: at any moment it gives what exact search gives, or is not used."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import pipeline
from benchmarks.tables import MadeRows
from benchmarks.tables import made_table as make_table
from pipeline.cli import main
from pipeline.indexing import held as held_module
from pipeline.indexing import ivf
from pipeline.indexing import update as update_module
from pipeline.indexing.facts import decode_facts, read_all_facts
from pipeline.indexing.files import fetch_file
from pipeline.indexing.held import Held
from pipeline.tables import Tables
from pipeline.tables.table import Commit
from tests.helpers.outputs import FORTNIGHT, later, live
from tests.helpers.runs import make_folder, read_features, vectors
from transforms.storage import open_storage

EXACT = pipeline.SearchConfig(exact=True)
BYTES = pytest.mark.parametrize("width", [2, 1])


def more_rows(output, rows, night=0):
    make_table(output, rows, MadeRows(night, centres=15, part_rows=400))


def facts_of(output):
    return next(iter(read_all_facts(open_storage(str(output)), "features")))


def assert_agree(output, version=None, k=20, where=None, tolerance=2e-3):
    """Compare what each row finds with the index and without it; return the searcher."""
    config = pipeline.SearchConfig(version=version)
    searcher = pipeline.Searcher(str(output), config)
    assert searcher.view is not None
    exact = pipeline.Searcher(str(output), replace(config, exact=True))
    queries = vectors(exact.table.read(["embedding"]))[:12]
    for found, expected in zip(
        searcher.nearest(queries, k, where), exact.nearest(queries, k, where), strict=True
    ):
        assert found.num_rows == expected.num_rows
        np.testing.assert_allclose(found["score"], expected["score"], atol=tolerance)
        rows = {row["uri"]: row for row in expected.to_pylist()}
        for row in found.to_pylist():
            # Near ties may change places with a row that is not among the first k.
            same = rows.get(row["uri"], {**row, "score": expected["score"][-1].as_py()})
            assert row["score"] == pytest.approx(same["score"], abs=tolerance)
            assert row["label"] == same["label"]
    return searcher


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a table of 1,500 made rows, with an index."""
    output = tmp_path_factory.mktemp("made") / "out"
    more_rows(output, 1500)
    result = pipeline.index(output)
    assert result.done == "made"
    assert result.facts.lists == 38
    assert result.facts.recall >= 0.99
    return output


@pytest.fixture
def copied(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "out"))


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


def damage(path, how):
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[:-100])
    elif how == "head":
        path.write_bytes(data[:40] + bytes([data[40] ^ 255]) + data[41:])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut", "head", "empty", "missing"])
@pytest.mark.parametrize("kind", ["vectors", "rows", "v0.json"])
def test_a_damaged_index_gets_one_line_and_the_search_is_exact(
    kind, how, two_nights, tmp_path, capsys, caplog
):
    output = shutil.copytree(two_nights / "out", tmp_path / "out")
    pipeline.index(output)
    version = facts_of(output).version
    pattern = f"v{version}.json" if kind == "v0.json" else f"{kind}-*"
    (path,) = (output / "index/features").glob(pattern)
    damage(path, how)
    photo = str(two_nights / "images/coffee.jpg")
    capsys.readouterr()
    assert main(["search", str(output), "--image", photo, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["uri"] == photo
    lines = [line for line in caplog.messages if "search is exact instead" in line]
    whole_index_is_gone = kind == "v0.json" and how == "missing"
    assert len(lines) == (0 if whole_index_is_gone else 1)
    verified = pipeline.verify(output)
    assert verified.clean == whole_index_is_gone
    assert {problem.kind for problem in verified.problems} <= {"index"}
    assert pipeline.index(output).done == "made"
    assert pipeline.verify(output).clean
    assert_agree(output)


def test_an_index_of_another_table_or_recipe_is_ignored_with_a_word(copied, caplog):
    path = copied / "index/features/v0.json"
    facts = json.loads(path.read_text())
    for field, words in (("recipe", "another recipe"), ("table_id", "another table")):
        path.write_text(json.dumps({**facts, field: "other"}))
        searcher = pipeline.Searcher(str(copied))
        assert searcher.view is None
        assert words in caplog.text
        caplog.clear()
    for hostile in ("../../secret.parquet", "/etc/passwd"):
        path.write_text(json.dumps({**facts, "held": {**facts["held"], "name": hostile}}))
        assert pipeline.Searcher(str(copied)).view is None
        assert "a name that this program does not give" in caplog.text
    assert pipeline.index(copied).done == "made"


def test_ids_that_were_never_given_are_damage(copied, caplog):
    path = copied / "index/features/v0.json"
    facts = decode_facts(path.read_bytes())
    searcher = pipeline.Searcher(str(copied))
    # As if the ids within the large file had been damaged.
    large = ivf.read(copied / "index/features" / facts.vectors[0].name, mapped=False)
    query = vectors(read_features(copied))[:1]
    ivf.add(large, query, np.array([10**9]))
    ivf.remove(large, np.arange(1490))
    searcher.view._lists = replace(searcher.view._lists, indexes=[large])
    assert searcher.nearest(query, 5)[0].num_rows == 5


def test_without_faiss(copied, monkeypatch, capsys, caplog):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert main(["index", str(copied)]) == 2
    said = capsys.readouterr().err
    assert "an index needs FAISS. pip install" in said
    assert len(said.splitlines()) == 1
    assert main(["search", str(copied), "--uri", "/made/0000/00000000.jpg", "-k", "1"]) == 0
    assert "the search is exact without it" in caplog.text


def test_vacuum_keeps_the_newest_index_and_what_is_not_ours(two_nights, tmp_path):
    output = shutil.copytree(two_nights / "out", tmp_path / "out")
    first = pipeline.index(output)
    second = pipeline.index(output, pipeline.IndexConfig(rebuild=True, bytes_per_number=1))
    folder = output / "index/features"
    foreign = [folder / "mine.faiss", folder / "v1.json.bak", output / "index/notes.txt"]
    for path in (*foreign, folder / ".tmp-0123456789abcdef"):
        path.write_bytes(b"x")
    young = pipeline.vacuum(output, FORTNIGHT)
    assert not [garbage for garbage in young.garbage if garbage.kind == "index file"]
    assert set(young.left_alone) == {path.relative_to(output).as_posix() for path in foreign}
    freed = pipeline.vacuum(output, FORTNIGHT, now=later())
    names = {garbage.key.rsplit("/", 1)[-1] for garbage in freed.garbage}
    assert first.facts.vectors[0].name in names
    left = {path.name for path in folder.iterdir()}
    expected = {"v1.json", *(file.name for file in second.facts.files)}
    assert left == expected | {"mine.faiss", "v1.json.bak"}
    assert_agree(output, tolerance=1e-5)
    # The table has gone on, and the index is still the newest one.
    pipeline.compact(output)
    pipeline.vacuum(output, FORTNIGHT, now=later())
    assert_agree(output, tolerance=1e-5)


@pytest.mark.parametrize("point", ["fsync", "before write index", "after write index"])
def test_kill_9_while_indexing_and_a_night_at_the_same_time(point, two_nights, photos, tmp_path):
    output = shutil.copytree(two_nights / "out", tmp_path / "out")
    pipeline.index(output, pipeline.IndexConfig(bytes_per_number=2))
    images = shutil.copytree(two_nights / "images", tmp_path / "images")
    make_folder(images / "more", photos, "brick")
    words = ["-m", "tests.helpers.killed", point, "1", "index", str(output), "--rebuild"]
    killed = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
    night = pipeline.Config(
        inputs=(str(images),), output=str(output), max_failure_rate=1, keep_removed=True
    )
    pipeline.extract(night)
    assert killed.wait(timeout=60) == -9
    assert_agree(output)
    pipeline.index(output)
    assert str(assert_agree(output).view).startswith("index of version 2")
    assert pipeline.verify(output).clean


def test_two_at_once(copied):
    more_rows(copied, 200, night=1)
    with ThreadPoolExecutor(2) as pool:
        configs = [pipeline.IndexConfig(), pipeline.IndexConfig(rebuild=True)]
        list(pool.map(lambda config: pipeline.index(copied, config), configs))
    assert str(assert_agree(copied).view) == "index of version 1"


def test_a_bucket_downloads_an_index_once(s3, two_nights, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = two_nights / "out"
    for file in output.rglob("*"):
        if file.is_file():
            s3.put(f"out/{file.relative_to(output)}", file.read_bytes())
    url = f"{s3.url}/out"
    assert pipeline.index(url).done == "made"
    photo = two_nights / "images/coffee.jpg"
    here = pipeline.search(output, image=photo, config=EXACT)
    for _ in range(2):
        searcher = pipeline.Searcher(url)
        assert searcher.view is not None
        found = searcher.nearest(searcher.vector(pipeline.Query(image=str(photo))))[0]
        assert found["uri"].equals(here["uri"])
        # The second time they come from the cache.
        for key in s3.under("out/index/"):
            if not key.endswith(".json"):
                s3.put(key, b"damaged")
    cached = [path for path in (tmp_path / "cache").rglob("vectors-*") if path.is_file()]
    assert len(cached) == 1
    cached[0].unlink()
    hits = pipeline.search(url, image=photo, k=1)
    assert hits["uri"].to_pylist() == [str(photo)]
    assert "search is exact instead" in caplog.text
    assert pipeline.index(url).done == "made"
    assert pipeline.Searcher(url).view is not None


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
