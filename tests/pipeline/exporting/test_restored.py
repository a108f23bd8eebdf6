"""An output that was restored from a copy has versions of the same numbers with other rows."""

import json

import pytest

import pipeline
from tests.helpers.exports import Readers, counts
from tests.helpers.outputs import live
from tests.helpers.runs import vectors
from transforms.errors import UserError


def restore(place):
    """Put an output in place whose version 1 has the rows of the first night."""
    place.night(1)
    pipeline.compact(place.output)


def check(place, to, dest):
    uris, matrix = Readers.read(to, dest)
    assert dict(zip(uris, matrix.tolist(), strict=True)) == dict(
        zip(place.table()["uri"].to_pylist(), vectors(place.table()).tolist(), strict=True)
    )


@pytest.fixture(params=["lance", "projector", "npy"])
def to(request):
    return request.param


@pytest.fixture
def dest(place, to):
    return place.dest / "photos.lance" if to == "lance" else place.dest


def test_another_version_of_the_same_number_is_noticed(place, to, dest):
    place.night(2)
    place.export(to, dest)
    restore(place)
    result = place.export(to, dest)
    assert (result.since, result.version) == (1, 1)
    assert to == "projector" or counts(result) == (1, 1, 2)
    check(place, to, dest)


def test_a_later_version_is_compared_with_the_one_that_was_exported(place, to, dest):
    place.night(2)
    place.export(to, dest)
    restore(place)
    pipeline.rollback(place.output, 0)
    result = place.export(to, dest)
    assert (result.since, result.version) == (1, 2)
    check(place, to, dest)


def test_a_higher_version_than_the_newest_one_is_compared_in_full(place, to, dest, caplog):
    place.night(2)
    place.export(to, dest)
    place.night(1)
    with caplog.at_level("INFO"):
        place.export(to, dest)
    check(place, to, dest)
    assert to != "lance" or "later than the newest one" in caplog.text


def test_a_state_without_a_fingerprint_is_compared_once(place, caplog):
    dest = place.dest / "photos.lance"
    place.export("lance", dest)
    state = place.dest / "photos.export.json"
    fields = json.loads(state.read_text())
    del fields["fingerprint"]
    state.write_text(json.dumps(fields))
    for said in (True, False):
        caplog.clear()
        with caplog.at_level("INFO"):
            assert counts(place.export("lance", dest)) == (0, 0, 0)
        assert ("comparing with all rows" in caplog.text) == said


def test_an_index_of_faiss_is_compared_by_its_rows(place, caplog):
    place.night(2)
    place.export("faiss")
    restore(place)
    assert counts(place.export("faiss")) == (1, 1, 2)
    assert counts(place.export("faiss")) == (0, 0, 0)


def test_an_index_of_faiss_whose_version_was_vacuumed_is_compared_by_its_rows(place):
    place.export("faiss")
    place.night(2)
    kept = live(place.output)
    for path in (place.output / "features").glob("part-*"):
        if path.name not in kept:
            path.unlink()
    assert counts(place.export("faiss")) == (2, 1, 1)


@pytest.mark.parametrize("night", [1, 2])
def test_a_batch_that_may_be_loaded_is_never_overwritten(place, night):
    """The restored table has version 0 or another version 1."""
    place.export("vertex")
    place.night(2)
    place.export("vertex")
    before = {path: path.read_bytes() for path in place.dest.glob("v*/**/*") if path.is_file()}
    place.night(1)
    if night == 2:
        pipeline.compact(place.output)
    for _ in range(2):
        with pytest.raises(UserError, match=r"has batches up to version 1, .*--replace"):
            place.export("vertex")
    assert all(path.read_bytes() == data for path, data in before.items())
    place.export("vertex", replace=True)
    check(place, "vertex", place.dest)


def test_a_later_version_of_a_restored_table_is_a_batch_again(place):
    place.night(2)
    place.export("vertex")
    restore(place)
    with pytest.raises(UserError, match="has batches up to version 1"):
        place.export("vertex")
    pipeline.rollback(place.output, 0)
    assert counts(place.export("vertex")) == (1, 1, 2)
    check(place, "vertex", place.dest)


def test_the_same_rows_under_a_used_number_need_no_batch(place):
    place.export("vertex")
    first = place.export("vertex")
    assert first.hint == ""
    pipeline.compact(place.output)
    result = place.export("vertex")
    assert (counts(result), result.version, result.hint) == ((0, 0, 0), 1, "")
    place.night(2)
    assert "v000001" in place.export("vertex", replace=True).hint
