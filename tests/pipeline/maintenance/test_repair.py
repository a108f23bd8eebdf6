"""Damaged parts are reported, never copied into a new part, and repaired by one command."""

import os
import re
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.maintenance.compact import compact
from pipeline.maintenance.rollback import rollback
from pipeline.maintenance.verify import verify
from pipeline.tables import Tables
from tests.helpers.outputs import break_off, live, parts, state
from tests.helpers.runs import make_folder
from transforms.errors import Damaged
from transforms.parts.reuse import Reuse, encode_index
from transforms.storage import open_storage


def flip(path):
    """Change one bit of the vectors, so that the part still reads as Parquet."""
    sound, rows = path.read_bytes(), pq.read_table(path)
    column = next(
        column
        for number in range(pq.read_metadata(path).num_columns)
        if (column := pq.read_metadata(path).row_group(0).column(number)).path_in_schema.startswith(
            "embedding"
        )
    )
    place = column.data_page_offset + column.total_compressed_size // 2
    for at in range(place, place + 200):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        try:
            if not pq.read_table(path).equals(rows):
                return
        except OSError:
            continue
    raise AssertionError("no bit found whose flip Parquet does not see")


def test_compaction_names_a_flipped_bit_and_copies_nothing(output):
    bad = output / "features" / live(output)[0]
    flip(bad)
    before = live(output), parts(output)
    with pytest.raises(
        Damaged,
        match=rf"^part {bad.name} of {output}/features is damaged: its bytes have the digest",
    ):
        compact(str(output))
    assert (live(output), parts(output)) == before
    assert verify(str(output)).problems[0].kind == "digest"


def test_a_damaged_part_gives_no_vectors_to_equal_bytes(output, caplog):
    bad = output / "features" / live(output)[0]
    rows = pq.read_table(bad, columns=["content_sha256"])
    index = encode_index(rows.append_column("part", [[bad.name] * rows.num_rows]))
    open_storage(str(output)).write("runs/test/index.parquet", index)
    contents = rows["content_sha256"].to_pylist()
    assert Reuse(open_storage(str(output)), "runs/test/index.parquet").find(contents)
    flip(bad)
    assert Reuse(open_storage(str(output)), "runs/test/index.parquet").find(contents) == []
    assert re.search(
        rf"part features/{bad.name} of .* is damaged: .*; its vectors are computed again",
        caplog.text,
    )


def largest(output):
    """Return the live part with the max number of rows, the first one of equals."""
    return max(
        (output / "features" / name for name in live(output)),
        key=lambda path: pq.read_metadata(path).num_rows,
    )


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def vectors_of(output):
    return state(output)[0].select(["uri", "content_sha256", "label", "embedding"])


@pytest.mark.parametrize("damage", [os.unlink, cut])
def test_a_night_does_the_images_of_a_lost_part_again(night, tmp_path, damage, caplog):
    night()
    output = tmp_path / "out"
    sound = vectors_of(output)
    bad = largest(output)
    rows = pq.read_metadata(bad).num_rows
    damage(bad)
    summary = night()
    assert (summary.listed, summary.new, summary.embedded, summary.still_failed) == (
        8,
        rows,
        rows,
        1,
    )
    assert vectors_of(output).equals(sound)
    assert verify(str(output)).clean
    [line] = [text for text in caplog.messages if text.startswith("took ")]
    assert f"took 1 damaged part with {rows} rows out of features: version 1;" in line
    assert bad.name in line


def test_a_night_repairs_a_part_with_a_flipped_bit_that_it_has_to_rewrite(
    night, own_images, tmp_path
):
    night()
    output = tmp_path / "out"
    sound = vectors_of(output)
    bad = largest(output)
    names = pq.read_table(bad)["uri"].to_pylist()
    flip(bad)
    Path(names[0]).unlink()
    summary = night()
    assert (summary.listed, summary.unchanged, summary.embedded) == (
        7,
        7 - len(names),
        len(names) - 1,
    )
    assert vectors_of(output).equals(sound.filter(pc.not_equal(sound["uri"], names[0])))
    assert verify(str(output)).clean


@pytest.mark.parametrize("damage", [os.unlink, cut])
def test_a_lost_part_of_the_errors_is_made_good_too(night, tmp_path, damage):
    night()
    before = state(tmp_path / "out")
    damage(tmp_path / "out/errors" / live(tmp_path / "out", "errors")[0])
    summary = night()
    assert (summary.listed, summary.unchanged, summary.failed) == (8, 7, 1)
    features, [failure] = state(tmp_path / "out")
    assert features.equals(before[0])
    assert (failure["uri"], failure["kind"]) == (before[1][0]["uri"], before[1][0]["kind"])
    assert verify(str(tmp_path / "out")).clean


def test_rebuild_replaces_tables_that_cannot_be_read(night, tmp_path):
    night()
    output = tmp_path / "out"
    sound = vectors_of(output)
    (output / "features" / live(output)[0]).unlink()
    cut(output / "errors" / live(output, "errors")[0])
    summary = night(rebuild=True)
    assert (summary.version, summary.embedded, summary.failed) == (1, 7, 1)
    assert vectors_of(output).equals(sound)
    assert verify(str(output)).clean


@pytest.mark.parametrize("damage", [os.unlink, cut])
def test_rollback_needs_nothing_of_what_it_replaces(night, own_images, tmp_path, damage):
    night()
    output = tmp_path / "out"
    first = state(output)
    before = {table: set(live(output, table)) for table in ("features", "errors")}
    make_folder(own_images / "more", own_images, "rocket")
    (own_images / "empty.jpg").write_bytes(b"")
    night()
    for table, old in before.items():
        for name in set(live(output, table)) - old:
            damage(output / table / name)
    assert "features 7 rows, errors 1 rows; readers see it as version 2" in str(
        rollback(str(output), 0)
    )
    assert state(output) == first


def test_rollback_to_a_part_that_was_cut_off_is_refused(output, capsys):
    for name in live(output):
        cut(output / "features" / name)
    assert main(["rollback", str(output), "0"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(
        r"needs 3 parts that are not there any more \(part-.*, or not whole.* nothing was done",
        line,
    )
    assert "image-features repair OUTPUT" in line


def test_repair_takes_out_what_verify_finds_and_the_next_night_is_whole(night, tmp_path, capsys):
    night()
    output = tmp_path / "out"
    sound = vectors_of(output)
    flipped, gone, _ = (output / "features" / name for name in live(output))
    flip(flipped)
    gone.unlink()
    capsys.readouterr()
    assert main(["repair", str(output)]) == 0
    *named, last = capsys.readouterr().out.splitlines()
    assert [re.search(r"part-\S+.parquet", line)[0] for line in named] == [flipped.name, gone.name]
    assert last.startswith("took 2 damaged parts with ")
    assert "; the next run does their images again (" in last
    assert main(["verify", str(output)]) == 0
    assert main(["repair", str(output)]) == 0
    assert capsys.readouterr().out.endswith("nothing is damaged\n")
    night()
    assert vectors_of(output).equals(sound)
    assert verify(str(output)).clean


def test_reading_damage_is_one_line_without_colors(output, capsys):
    cut(output / "features" / live(output)[0])
    assert main(["show", str(output), "--rows", "1"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "\x1b" not in line
    assert "image-features repair OUTPUT" in line


def test_a_night_makes_a_lost_part_in_a_bucket_good(s3, images, run):
    output = f"{s3.url}/out"
    run(images, output, max_failure_rate=1, shard_size=3)
    part = Tables.open(open_storage(output)).features.parts[0]
    s3.client.delete_object(Bucket=s3.bucket, Key=f"out/features/{part['path']}")
    summary = run(images, output, max_failure_rate=1, shard_size=3)
    assert (summary.listed, summary.new, summary.embedded) == (
        8,
        part["num_records"],
        part["num_records"],
    )
    assert verify(output).clean


@pytest.mark.parametrize("words", [["show"], ["repair"], ["rollback", "0"]])
def test_a_log_that_cannot_be_read_is_one_line(output, capsys, words):
    # Not the newest entry: that one is checked before Delta reads it.
    os.truncate(output / "features/_delta_log/00000000000000000000.json", 100)
    assert main([words[0], str(output), *words[1:]]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(
        rf"the log of the table {output}/features cannot be read: .*Truncated record.*_delta_log",
        line,
    )
    assert "unknown" not in line


@pytest.mark.parametrize("table", ["features", "errors"])
def test_a_run_that_broke_off_before_the_damage_starts_anew(
    night, own_images, tmp_path, monkeypatch, table
):
    night()
    output = tmp_path / "out"
    make_folder(own_images / "more", own_images, "coffee")
    (own_images / "rocket.jpg").unlink()
    break_off(night, monkeypatch)
    (output / table / live(output, table)[0]).unlink()
    summary = night()
    assert summary.published
    assert summary.listed == 8
    assert len(state(output)[0]) == 7
    assert verify(str(output)).clean
