"""Another output takes the place of one that was searched, indexed, grouped or served."""

import shutil

import pytest

import pipeline
from pipeline.cli import main
from pipeline.retrieval.searcher import SearchConfig
from pipeline.serve.filters import Filters
from pipeline.serve.groups import groups_page
from pipeline.serve.library import Library
from tests.helpers.exports import Place
from transforms.storage import open_storage

# One of them is only in the first night, one only in the second.
FIRST, SECOND = "rocket", "moon"


def restore(place: Place) -> None:
    """Put in place a version 1 with the rows of the first night, as after a restored copy."""
    shutil.copytree(place.output, place.root / "kept")
    place.night(1)
    pipeline.compact(place.output)
    for made in ("index", "duplicates"):
        if (place.root / "kept" / made).exists():
            shutil.copytree(place.root / "kept" / made, place.output / made)


def found(place: Place, config: SearchConfig | None = None) -> set[str]:
    uri = place.table()["uri"][0].as_py()
    hits = pipeline.search(place.output, uri=uri, config=config)
    return {uri.rsplit("/", 1)[-1].partition(".")[0] for uri in hits["uri"].to_pylist()}


@pytest.mark.parametrize("version", [None, 1])
@pytest.mark.parametrize("indexed", [False, True])
def test_search_sees_the_rows_that_are_there(place, version, indexed, caplog):
    place.night(2)
    if indexed:
        pipeline.index(place.output)
    config = SearchConfig(version=version)
    assert SECOND in found(place, config)
    restore(place)
    for _ in range(1 + indexed):
        with caplog.at_level("INFO"):
            now = found(place, config)
        assert (FIRST in now, SECOND in now) == (True, False)
        assert ("with the index" in caplog.text) == indexed
        if indexed:
            pipeline.index(place.output)
    assert not pipeline.verify(place.output).problems


def test_a_relative_path_means_the_folder_of_the_moment(place, monkeypatch, tmp_path):
    for number, name in ((1, FIRST), (2, SECOND)):
        place.night(number)
        there = tmp_path / f"in {number}"
        shutil.copytree(place.output, there / "features")
        monkeypatch.chdir(there)
        uri = place.table()["uri"][0].as_py()
        hits = pipeline.search("features", uri=uri)["uri"].to_pylist()
        assert any(name in uri for uri in hits), hits


def test_the_page_shows_the_rows_that_are_there(place):
    place.night(2)
    pipeline.duplicates(place.output)
    library = Library(str(place.output), SearchConfig(), check_seconds=0)
    storage = open_storage(str(place.output))
    before = library.view()
    assert "they stand for" not in groups_page(storage, before, Filters(), 0)["said"]
    restore(place)
    view = library.view()
    assert view.rows["uri"].to_pylist() != before.rows["uri"].to_pylist()
    assert view.rows["uri"].to_pylist() == sorted(place.table()["uri"].to_pylist())
    assert "they stand for" in groups_page(storage, view, Filters(), 0)["said"]


def test_groups_of_another_version_of_the_same_number_are_made_anew(place, caplog, capsys):
    place.night(2)
    assert pipeline.duplicates(place.output).compared == 7
    restore(place)
    assert main(["show", str(place.output)]) == 0
    assert "of another version 1, as in a copy of the table" in capsys.readouterr().out
    assert pipeline.duplicates(place.output).compared == 6
    assert "may have been another one" in caplog.text
    assert main(["show", str(place.output)]) == 0
    assert "up to date" in capsys.readouterr().out
    assert pipeline.duplicates(place.output).compared == 0
