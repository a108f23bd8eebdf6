"""A table of LanceDB follows the table; LanceDB's own search finds what exact search finds."""

import lancedb
import pytest

import pipeline
from pipeline.cli import main
from tests.helpers.exports import check_nearest, counts
from transforms.errors import UserError


@pytest.fixture
def dest(place):
    return place.root / "it's a db" / "photos.lance"


def check(place, dest, uri="uri"):
    table = lancedb.connect(str(dest.parent)).open_table("photos")

    def search(query):
        found = table.search(query, vector_column_name="embedding").distance_type("cosine")
        return found.limit(5).to_arrow()[uri].to_pylist()

    check_nearest(place.table(), search)
    assert table.count_rows() == place.table().num_rows


@pytest.mark.parametrize("options", [{}, {"id": "int64"}, {"columns": ("all", "uri=The name")}])
def test_the_table_follows(place, dest, options):
    uri = "The name" if "columns" in options else "uri"
    assert counts(place.export("lance", dest, **options)) == (6, 0, 0)
    check(place, dest, uri)
    place.night(2)
    assert counts(place.export("lance", dest, **options)) == (2, 1, 1)
    check(place, dest, uri)
    pipeline.compact(place.output)
    assert counts(place.export("lance", dest, **options)) == (0, 0, 0)
    pipeline.rollback(place.output, 0)
    assert counts(place.export("lance", dest, **options)) == (1, 1, 2)
    check(place, dest, uri)


def test_a_stopped_export_is_compared_in_full(place, dest, monkeypatch, caplog):
    from pipeline.exporting.lance import Lance

    place.export("lance", dest)
    place.night(2)

    def stop(*_):
        raise KeyboardInterrupt

    for step in ("remove", "count", "finish"):
        with monkeypatch.context() as patch:
            patch.setattr(Lance, step, stop)
            with pytest.raises(KeyboardInterrupt):
                place.export("lance", dest)
    with caplog.at_level("INFO"):
        assert counts(place.export("lance", dest)) == (0, 0, 0)
    assert "comparing with all rows" in caplog.text
    check(place, dest)


def test_a_table_that_was_killed_while_it_was_made_is_made_anew(place, dest, monkeypatch):
    """LanceDB leaves data without a version then."""
    from pipeline.exporting.lance import Lance

    def stop(self, batches):
        (dest / "data").mkdir(parents=True)
        (dest / "data/0.lance").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lance, "send", stop)
        with pytest.raises(KeyboardInterrupt):
            place.export("lance", dest)
    assert counts(place.export("lance", dest)) == (6, 0, 0)
    check(place, dest)


@pytest.mark.parametrize("night", [1, 2])
def test_rows_that_were_lost_are_sent_again(place, dest, night):
    place.export("lance", dest)
    lancedb.connect(str(dest.parent)).open_table("photos").delete("uri LIKE '%chelsea%'")
    place.night(night)
    assert counts(place.export("lance", dest)) == [(1, 0, 0), (3, 1, 1)][night - 1]
    check(place, dest)
    lancedb.connect(str(dest.parent)).drop_table("photos")
    assert counts(place.export("lance", dest)) == (place.table().num_rows, 0, 0)
    check(place, dest)


def test_rows_of_another_shape_that_a_stopped_first_export_left_are_deleted(
    place, dest, monkeypatch
):
    from pipeline.exporting.lance import Lance

    with monkeypatch.context() as patch:
        patch.setattr(Lance, "count", None)
        with pytest.raises(TypeError):
            place.export("lance", dest)
    assert counts(place.export("lance", dest, id="sha256", columns=("width",))) == (6, 0, 0)
    check(place, dest)


def test_a_table_of_others_is_refused_and_replaced(place, dest):
    lancedb.connect(str(dest.parent)).create_table("photos", [{"a": 1}])
    with pytest.raises(UserError, match="no export has noted"):
        place.export("lance", dest)
    place.export("lance", dest, replace=True)
    check(place, dest)


@pytest.mark.parametrize("name", ["photos", ".lance", "a/photos.lance/"])
def test_the_destination_names_a_table(place, name):
    if name.endswith("/"):
        place.export("lance", place.root / name)
        return
    with pytest.raises(UserError, match="write FOLDER/NAME"):
        place.export("lance", place.root / name)


def test_a_file_in_place_of_the_folder_is_one_clear_line(place, capsys):
    file = place.root / "file"
    file.write_bytes(b"")
    dest = f"{file}/photos.lance"
    assert main(["export", str(place.output), "--to", "lance", "--dest", dest]) == 1
    error = capsys.readouterr().err
    assert "LanceDB failed at" in error
    assert error.count("\n") == 1


def test_a_bucket_is_a_destination(place, s3):
    place.export("lance", f"{s3.url}/db/photos.lance")
    place.night(2)
    assert counts(place.export("lance", f"{s3.url}/db/photos.lance")) == (2, 1, 1)
    assert s3.under("db/photos.export.json")
    assert s3.under("db/photos.lance/")


@pytest.mark.parametrize("name", ["a`b", 'a"b', "a.b", "a'b"])
def test_names_that_lancedb_cannot_merge_by_are_refused(place, dest, name):
    with pytest.raises(UserError, match="LanceDB takes letters"):
        place.export("lance", dest, columns=(f"uri={name}",))
