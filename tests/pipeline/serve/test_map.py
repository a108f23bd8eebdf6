"""The map keeps its places from night to night, and survives what lies in its cache."""

import shutil

import numpy as np
import pytest

import pipeline
from pipeline.retrieval.searcher import SearchConfig
from pipeline.serve import layout as layouts
from pipeline.serve.layout import fit, load, save
from pipeline.serve.library import Library
from pipeline.serve.map import Map
from tests.helpers.runs import make_folder
from transforms.engines.models import cache_folder


def places(output, map_):
    view = Library(str(output), SearchConfig()).view()
    points = map_.points(view, view.rows)
    found = {
        uri: (x, y) for uri, x, y in zip(*(points[n] for n in ("uris", "x", "y")), strict=True)
    }
    assert set(found) == set(view.rows["uri"].to_pylist())
    return found


def test_places_stay_from_night_to_night(two_nights, photos, tmp_path):
    shutil.copytree(two_nights / "images", tmp_path / "images")
    config = pipeline.Config(
        inputs=(str(tmp_path / "images"),), output=str(tmp_path / "out"), max_failure_rate=1
    )
    pipeline.extract(config)
    running = Map()
    before = places(tmp_path / "out", running)
    make_folder(tmp_path / "images" / "more", photos, "brick grass")
    pipeline.extract(config)
    # The process that goes on, and one that starts anew, place all rows in the same way.
    after = places(tmp_path / "out", running)
    assert places(tmp_path / "out", Map()) == after
    assert len(after) == len(before) + 2
    assert before == {uri: after[uri] for uri in before}
    # A damaged file of the cache is made again.
    for file in cache_folder().with_name("map").glob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    again = places(tmp_path / "out", Map())
    assert len(again) == len(after)


def made(rows, dimension=64, groups=3, seed=1):
    """Return vectors of length 1 around ``groups`` centers, and their groups."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(0).standard_normal((groups, dimension))
    group = random.integers(0, groups, rows)
    vectors = centers[group] + 0.2 * random.standard_normal((rows, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), group


@pytest.mark.parametrize("rows", [40, 90])
def test_without_umap_places_are_principal_components(rows):
    vectors, _ = made(rows)
    layout = fit(vectors, rows)
    assert layout.method == "PCA"
    centered = (vectors - vectors.mean(0)).astype(np.float64)
    left, scale, _ = np.linalg.svd(centered, full_matrices=False)
    expected = np.abs(left[:, :2] * scale[:2])
    np.testing.assert_allclose(np.abs(layout.place(vectors)), expected, atol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_map_of_hardly_any_rows(rows):
    vectors, _ = made(5)
    placed = fit(vectors[:rows], rows).place(vectors)
    assert placed.shape == (5, 2)
    assert np.isfinite(placed).all()
    assert fit(vectors[:rows, :1], rows).place(vectors[:, :1]).shape == (5, 2)


def test_umap_keeps_groups_together_and_places_new_rows_in_theirs():
    pytest.importorskip("umap.umap_", reason="the extra 'map' is not installed")
    vectors, group = made(300)
    layout = fit(vectors, 300)
    assert layout.method == "UMAP"
    new, new_group = made(60, seed=2)
    placed = layout.place(new)
    centers = np.array([layout.place(vectors)[group == g].mean(0) for g in range(3)])
    distances = np.linalg.norm(placed[:, None] - centers, axis=2)
    assert (distances.argmin(1) == new_group).all()
    # A row that was there keeps its place.
    np.testing.assert_allclose(layout.place(vectors[:9]), layout.places[:9], atol=0.05)


def test_a_layout_is_read_as_it_was_written_or_not_at_all(tmp_path):
    vectors, _ = made(50)
    layout = fit(vectors, 50)
    file = tmp_path / "map" / "a.npz"
    save(file, layout)
    known = load(file, 64)
    np.testing.assert_array_equal(known.place(vectors), layout.place(vectors))
    assert [path.name for path in file.parent.iterdir()] == ["a.npz"]
    assert load(file, 65) is None
    assert load(tmp_path / "none.npz", 64) is None
    np.savez(file, mean=np.array([{}], object), axes=1, anchors=1, places=1, rows=1)
    assert load(file, 64) is None
    file.write_bytes(b"")
    assert load(file, 64) is None


def test_a_table_that_grew_much_gets_a_new_layout(two_nights, monkeypatch):
    calls = []
    monkeypatch.setattr(layouts, "_principal_axes", count(layouts._principal_axes, calls))
    monkeypatch.setenv("XDG_CACHE_HOME", str(two_nights / "own-cache"))
    view = Library(str(two_nights / "out"), SearchConfig()).view()
    Map().points(view, view.rows)
    Map().points(view, view.rows)
    assert len(calls) == 1
    (file,) = (two_nights / "own-cache").rglob("*.npz")
    known = load(file, 1280)
    few = layouts.Layout(known.mean, known.axes, known.anchors, known.places, rows=1)
    save(file, few)
    Map().points(view, view.rows)
    assert len(calls) == 2
    assert load(file, 1280).rows == 7


def count(function, calls):
    def counted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counted


def test_a_large_table_is_sampled(two_nights, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    view = Library(str(two_nights / "out"), SearchConfig()).view()
    everything = set(Map().points(view, view.rows)["uris"])
    monkeypatch.setattr("pipeline.serve.map.MAP_ROWS", 4)
    some = Map().points(view, view.rows)
    assert set(some["uris"]) < everything
    assert some["said"] == f"{len(some['uris'])} of 7 images, placed by PCA"
    only = view.rows.slice(0, 2)
    assert set(Map().points(view, only)["uris"]) <= set(only["uri"].to_pylist())
