"""An index that is damaged, killed or in a bucket: it is whole, or search is exact."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import pipeline
from pipeline.cli import main
from pipeline.indexing import ivf
from pipeline.indexing.facts import decode_facts
from tests.helpers.indexes import assert_agree, facts_of, more_rows
from tests.helpers.outputs import FORTNIGHT, later
from tests.helpers.runs import make_folder, read_features, vectors

EXACT = pipeline.SearchConfig(exact=True)


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
