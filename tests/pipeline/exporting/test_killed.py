"""An export that is killed at any write or deletion, and repeated, ends as one that was not."""

import shutil

import numpy as np
import pytest

from tests.helpers.exports import Readers, counts
from tests.helpers.runs import vectors
from transforms.storage.local import LocalStorage

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def kill_at(point, monkeypatch):
    """End at a write or deletion, before it happens; return how many are left."""
    left = [point]

    def around(name):
        real = getattr(LocalStorage, name)

        def call(self, key, *data, **options):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(self, key, *data, **options)

        monkeypatch.setattr(LocalStorage, name, call)

    around("write")
    around("delete")


def check(place, to, dest):
    uris, matrix = Readers.read(to, dest)
    table = place.table()
    order = np.argsort(uris)
    assert [uris[row] for row in order] == table["uri"].to_pylist()
    np.testing.assert_array_equal(matrix[order], vectors(table))


@pytest.mark.parametrize("to", ["vertex", "npy", "parquet,partition=label", "projector", "lance"])
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 2)])
def test_an_export_that_is_killed_ends_the_same(place, monkeypatch, to, first, then):
    """The next call, of the same night or of the next one, goes on."""
    dest = place.dest / "photos.lance" if to == "lance" else place.dest
    for point in range(200):
        shutil.rmtree(place.dest, ignore_errors=True)
        place.night(1)
        if first == 2:
            place.export(to, dest)
            place.night(2)
        with monkeypatch.context() as patch:
            kill_at(point, patch)
            try:
                place.export(to, dest)
                break
            except Killed:
                pass
        place.night(then)
        place.export(to, dest)
        check(place, to, dest)
        assert counts(place.export(to, dest)) == (0, 0, 0)
    assert point > 1


@pytest.mark.parametrize("to", ["vertex", "npy"])
def test_a_replacement_that_is_killed_ends_the_same(place, monkeypatch, to):
    for point in range(200):
        shutil.rmtree(place.dest, ignore_errors=True)
        place.night(1)
        place.export(to, id="sha256")
        place.night(2)
        with monkeypatch.context() as patch:
            kill_at(point, patch)
            try:
                place.export(to, replace=True)
                break
            except Killed:
                pass
        place.export(to, replace=point == 0)
        check(place, to, place.dest)
    assert point > 3
