"""Each of several tables is searched and exported under its own name."""

from pipeline.cli import main
from tests.helpers.exports import Readers
from tests.helpers.runs import vectors
from tests.helpers.several import SMALL_TABLE, read, stems

SMALL_NAME = SMALL_TABLE.removeprefix("features-")


def export(output, dest, *more):
    return main(["export", str(output), "--to", "npy", "--dest", str(dest), *more])


def test_export_sends_the_named_table_and_does_not_mix_it_with_another(base, tmp_path, capsys):
    named, first = tmp_path / "named", tmp_path / "first"
    assert export(base, named, "--table", SMALL_NAME) == 0
    assert export(base, first) == 0
    for dest, table in ((named, SMALL_TABLE), (first, "features")):
        uris, matrix = Readers.read("npy", dest)
        expected = read(base, table)
        assert dict(zip(uris, map(bytes, matrix), strict=True)) == dict(
            zip(expected["uri"].to_pylist(), map(bytes, vectors(expected)), strict=True)
        )
    capsys.readouterr()
    assert export(base, named) == 2
    assert "--replace" in capsys.readouterr().err
    assert export(base, named, "--table", "ResNet50") == 2
    assert f"there are: {SMALL_NAME}" in capsys.readouterr().err


def test_the_lines_to_paste_and_search_take_the_named_table(base, capsys):
    assert main(["export", str(base), "--to", "open", "--table", SMALL_NAME]) == 0
    assert f"{base}/{SMALL_TABLE}" in capsys.readouterr().out
    name = next(iter(read(base, SMALL_TABLE)["uri"].to_pylist()))
    assert main(["search", str(base), "--uri", name, "--table", SMALL_NAME]) == 0
    assert capsys.readouterr().out.count("1.0000") >= 1
    assert len(stems(base, SMALL_TABLE)) == 9
