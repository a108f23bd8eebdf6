"""Collections of Qdrant and of Milvus, in their local modes, follow the table."""

import subprocess
import sys

import pytest

import pipeline
from pipeline.cli import main
from pipeline.exporting.milvus import Milvus
from pipeline.exporting.qdrant import Qdrant
from tests.helpers.exports import check_nearest, counts
from transforms.errors import RunFailed, UserError

TARGETS = ("qdrant", "milvus")
CLASSES = {"qdrant": Qdrant, "milvus": Milvus}


@pytest.fixture(params=TARGETS)
def to(request):
    return request.param


@pytest.fixture
def dest(place, to):
    return f"{place.root / 'it is a base.db'}#photos"


def check(place, to, dest):
    path, name = dest.split("#")
    if to == "qdrant":
        from qdrant_client import QdrantClient

        client = QdrantClient(path=path)
        rows = client.count(name).count

        def search(query):
            found = client.query_points(name, query=query, limit=5, with_payload=["uri"])
            return [point.payload["uri"] for point in found.points]
    else:
        from pymilvus import MilvusClient

        client = MilvusClient(path)
        client.load_collection(name)
        rows = client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"]

        def search(query):
            found = client.search(name, [query], limit=5, output_fields=["uri"])
            return [hit["entity"]["uri"] for hit in found[0]]

    try:
        check_nearest(place.table(), search)
        assert rows == place.table().num_rows
    finally:
        client.close()


@pytest.mark.parametrize("kind", [None, "int64"])
def test_the_collection_follows(place, to, dest, kind):
    assert counts(place.export(to, dest, id=kind)) == (6, 0, 0)
    check(place, to, dest)
    place.night(2)
    assert counts(place.export(to, dest, id=kind)) == (2, 1, 1)
    check(place, to, dest)
    pipeline.compact(place.output)
    assert counts(place.export(to, dest, id=kind)) == (0, 0, 0)
    pipeline.rollback(place.output, 0)
    assert counts(place.export(to, dest, id=kind)) == (1, 1, 2)
    check(place, to, dest)


def test_a_file_that_milvus_lite_still_has_open_and_that_is_gone_is_refused(place):
    """Its server would answer from the old one: the export would send nothing."""
    path = place.root / "a.db"
    place.export("milvus", f"{path}#photos")
    path.rename(place.root / "moved.db")
    for _ in range(2):
        with pytest.raises(RunFailed, match="still has the old one open in this process"):
            place.export("milvus", f"{path}#photos")
        path.mkdir(exist_ok=True)


def test_all_columns_are_taken_along(place, to, dest):
    place.export(to, dest, columns=("all",))
    place.night(2)
    assert counts(place.export(to, dest, columns=("all",))) == (2, 1, 1)
    check(place, to, dest)


def test_a_stopped_export_is_compared_in_full(place, to, dest, monkeypatch, caplog):
    place.export(to, dest)
    place.night(2)

    def stop(*_):
        raise KeyboardInterrupt

    for step in ("remove", "finish"):
        with monkeypatch.context() as patch:
            patch.setattr(CLASSES[to], step, stop)
            with pytest.raises(KeyboardInterrupt):
                place.export(to, dest)
    with caplog.at_level("INFO"):
        assert counts(place.export(to, dest)) == (0, 0, 0)
    assert "comparing with all rows" in caplog.text
    check(place, to, dest)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_released_collection_of_milvus_is_loaded(place, monkeypatch, stopped):
    """As Milvus Lite has each collection in a new process."""
    dest = f"{place.root / 'a.db'}#photos"
    place.export("milvus", dest)
    place.night(2)
    if stopped:
        with monkeypatch.context() as patch:
            patch.setattr(Milvus, "remove", None)
            with pytest.raises(TypeError):
                place.export("milvus", dest)
    real = Milvus.__init__

    def start(self, job):
        real(self, job)
        self._client.release_collection("photos")

    monkeypatch.setattr(Milvus, "__init__", start)
    assert counts(place.export("milvus", dest)) == ((0, 0, 1) if stopped else (2, 1, 1))
    assert counts(place.export("milvus", dest)) == (0, 0, 0)
    check(place, "milvus", dest)


def test_an_error_of_milvus_is_logged_by_nobody_else(place):
    """In a process of its own, since pytest takes what is logged."""
    dest = f"{place.root / 'a.db'}#photos"
    text = (
        "import sys, pipeline; from pipeline.exporting.milvus import Milvus\n"
        "Milvus.remove = lambda self, keys: setattr(self, '_name', 'none') or self.count()\n"
        "from pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", text, "export", str(place.output)]
    command += ["--to", "milvus", "--dest", dest]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Milvus failed at" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_export_that_is_killed_goes_on(place, to, dest, monkeypatch):
    def stop(self, batches):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CLASSES[to], "send", stop)
        with pytest.raises(KeyboardInterrupt):
            place.export(to, dest)
    assert counts(place.export(to, dest)) == (6, 0, 0)
    check(place, to, dest)


def test_another_shape_is_refused_and_replaced(place, to, dest):
    place.export(to, dest)
    with pytest.raises(UserError, match="holds another"):
        place.export(to, dest, columns=("width",))
    place.export(to, dest, columns=("width",), replace=True)
    check(place, to, dest)


def test_a_server_that_does_not_answer_is_one_clear_line(place, to, capsys, monkeypatch):
    dest = "http://127.0.0.1:1#photos"
    if to == "milvus":
        import pymilvus

        def refuse(*_, **__):
            raise pymilvus.MilvusException(message="connection refused\nand more")

        monkeypatch.setattr(pymilvus, "MilvusClient", refuse)
    assert main(["export", str(place.output), "--to", to, "--dest", dest]) == 1
    error = capsys.readouterr().err
    assert f"{to.capitalize()} failed at http://127.0.0.1:1#photos" in error
    assert error.count("\n") == 1


def test_a_missing_library_is_named(place, to, dest, monkeypatch):
    monkeypatch.setitem(sys.modules, {"qdrant": "qdrant_client", "milvus": "pymilvus"}[to], None)
    with pytest.raises(UserError, match="pip install"):
        place.export(to, dest)


def test_a_server_without_metadata_is_refused(place, monkeypatch):
    monkeypatch.setattr(Qdrant, "read_state", lambda self: None)
    with pytest.raises(RunFailed, match=r"needs Qdrant 1\.16"):
        place.export("qdrant", f"{place.root / 'q'}#photos")
