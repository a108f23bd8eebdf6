"""Maintenance knows the groups of near-duplicates, and commands that are killed do no harm."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import pipeline
from pipeline.cli import main
from pipeline.grouping.store import Done, Store
from tests.helpers.groups import EXPECTED, change, config, groups_of
from tests.helpers.outputs import FORTNIGHT, later, live, parts
from tests.helpers.runs import make_folder
from transforms.records import GROUPS_SCHEMA
from transforms.storage import open_storage

ANOTHER = pipeline.DuplicatesConfig(cosine=0.95)


def test_vacuum_deletes_old_groups_and_leaves_what_is_not_ours(root):
    output = root / "out"
    pipeline.duplicates(output)
    [old] = parts(output, "duplicates")
    # As a command leaves it that was killed before its commit.
    orphan = output / "duplicates/part-20261126T000001.000Z-0000-0123456789ab.parquet"
    shutil.copy(output / "duplicates" / old, orphan)
    pipeline.duplicates(output, ANOTHER)
    foreign = ["duplicates/part-00000-mine-c000.snappy.parquet", "duplicates/notes.txt"]
    elsewhere = ["duplicates-mine/photo.jpg", "duplicates-mine/part-0.parquet"]
    (output / "duplicates-mine").mkdir()
    for name in [*foreign, *elsewhere]:
        (output / name).write_bytes(b"x")
    assert not pipeline.vacuum(output, FORTNIGHT).garbage
    freed = pipeline.vacuum(output, FORTNIGHT, now=later())
    assert {Path(garbage.key).name for garbage in freed.garbage} == {old, orphan.name}
    assert set(freed.left_alone) == set(foreign)
    assert all((output / name).exists() for name in [*foreign, *elsewhere])
    assert groups_of(output) == EXPECTED
    assert pipeline.verify(output).clean


def test_vacuum_waits_for_a_command_that_is_writing_groups(root, monkeypatch):
    """The part lies there, and the commit comes while vacuum deletes."""
    output = root / "out"
    pipeline.duplicates(output)
    pipeline.duplicates(output, ANOTHER)

    def commit(*_):
        pipeline.duplicates(output)
        return check(*_)

    check = pipeline.vacuum.__globals__["_check_same"]
    monkeypatch.setattr("pipeline.maintenance.vacuum._check_same", commit)
    with pytest.raises(pipeline.Refused, match=r"vacuum is deleting|changed the duplicates table"):
        pipeline.vacuum(output, FORTNIGHT, now=later())
    assert groups_of(output) == EXPECTED


@pytest.mark.parametrize("damage", ["lost", "bit", "rows"])
def test_verify_finds_damaged_groups_and_repair_takes_them_out(root, damage, capsys):
    output = root / "out"
    pipeline.duplicates(output)
    [name] = parts(output, "duplicates")
    part = output / "duplicates" / name
    if damage == "lost":
        part.unlink()
    elif damage == "bit":
        data = part.read_bytes()
        part.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    else:
        rows = DeltaTable(output / "duplicates").to_pyarrow_table()
        wrong = pa.concat_tables([rows[1:], rows[1:2]])
        write_ours(output, wrong)
    assert main(["verify", str(output)]) == 1
    said = capsys.readouterr().out
    assert "duplicates: duplicates: " in said
    assert "'image-features duplicates OUTPUT' makes the groups anew" in said
    if damage == "rows":
        assert "1 images are in several groups" in said
        assert "1 groups lack their representative" in said
    else:
        assert main(["repair", str(output)]) == 0
        assert "took 1 damaged part with 7 rows out of duplicates" in capsys.readouterr().out
        assert groups_of(output) == []
        assert pipeline.verify(output).clean
        assert pipeline.duplicates(output).compared == 9
        assert groups_of(output) == EXPECTED
        assert pipeline.verify(output).clean


def write_ours(output, rows):
    """Write groups that contradict themselves, as a mistake in this program would."""
    Store(open_storage(str(output))).replace(rows.cast(GROUPS_SCHEMA), Done("", "", 0, 0.9))


def test_groups_follow_rollback_and_compact(tmp_path, photos):
    images = make_folder(tmp_path / "images", photos)
    output = tmp_path / "out"
    pipeline.extract(config(tmp_path))
    pipeline.duplicates(output)
    assert groups_of(output) == []
    change(images)
    pipeline.extract(config(tmp_path))
    assert pipeline.duplicates(output).compared == 3
    pipeline.compact(output)
    assert "of version 1, the newest is 2" in str(pipeline.show(output))
    assert pipeline.duplicates(output).compared == 0
    assert groups_of(output) == EXPECTED
    pipeline.rollback(output, 0)
    # The groups lost their representatives, so what is left of them is compared again.
    assert pipeline.duplicates(output).compared == 3
    assert groups_of(output) == []
    # The version of that call will be gone, so the next one cannot know what it has compared.
    pipeline.extract(config(tmp_path))
    pipeline.compact(output)
    pipeline.vacuum(output, FORTNIGHT, now=later())
    assert pipeline.duplicates(output).compared == 9
    assert groups_of(output) == EXPECTED
    assert pipeline.verify(output).clean


def test_a_table_of_another_program_is_left_alone(root, capsys):
    output = root / "out"
    mine = pa.table({"mine": [1, 2, 3]})
    write_deltalake(output / "duplicates", mine)
    before = sorted(path for path in (output / "duplicates").rglob("*") if path.is_file())
    assert main(["duplicates", str(output)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "is a table of another program" in line
    assert pipeline.repair(output) == []
    freed = pipeline.vacuum(output, FORTNIGHT, now=later())
    assert not freed.garbage
    assert "another program" in str(pipeline.show(output))
    assert [problem.kind for problem in pipeline.verify(output).problems] == ["duplicates"]
    assert sorted(p for p in (output / "duplicates").rglob("*") if p.is_file()) == before
    assert DeltaTable(output / "duplicates").to_pyarrow_table() == mine


def test_the_table_of_a_further_backbone(root):
    output = root / "out"
    for kind in ("features", "errors"):
        shutil.copytree(output / kind, output / f"{kind}-other")
    first = pipeline.duplicates(output)
    other = pipeline.DuplicatesConfig(table="other", cosine=1)
    assert pipeline.duplicates(output, other).url.endswith("/duplicates-other")
    assert groups_of(output, "duplicates-other") == [["coffee", "coffee-copy"]]
    assert pipeline.duplicates(output, other).compared == 0
    assert first.groups == pipeline.duplicates(output).groups
    assert pipeline.duplicates(output).compared == 0
    assert "2 images in 1 group; up to date" in str(pipeline.show(output, table="other"))
    old = parts(output, "duplicates-other")
    pipeline.duplicates(output, pipeline.DuplicatesConfig(table="other"))
    freed = pipeline.vacuum(output, FORTNIGHT, now=later())
    assert [garbage.key for garbage in freed.garbage] == [f"duplicates-other/{old[0]}"]
    [name] = live(output, "duplicates-other")
    (output / "duplicates-other" / name).write_bytes(b"")
    assert pipeline.verify(output).clean
    assert not pipeline.verify(output, table="other").clean
    [repaired] = pipeline.repair(output, table="other")
    assert repaired.table == "duplicates-other"


def test_a_bucket(s3, changed_photos, tmp_path):
    output = changed_photos / "out"
    for file in output.rglob("*"):
        if file.is_file():
            s3.put(f"out/{file.relative_to(output)}", file.read_bytes())
    url = f"{s3.url}/out"
    assert pipeline.duplicates(url).compared == 9
    assert pipeline.duplicates(url).compared == 0
    again = pipeline.duplicates(url, ANOTHER)
    assert again.url == f"{url}/duplicates"
    assert again.groups.num_rows == 7
    assert "7 images in 3 groups; up to date" in str(pipeline.status(url))
    assert len(s3.under("out/duplicates/part-")) == 2
    [freed] = pipeline.vacuum(url, FORTNIGHT, now=later()).garbage
    assert f"out/{freed.key}" not in s3.under("out/duplicates/part-")
    assert pipeline.verify(url).clean
    [left] = s3.under("out/duplicates/part-")
    s3.put(left, b"damaged")
    assert [problem.kind for problem in pipeline.verify(url).problems] == ["duplicates"]
    assert pipeline.duplicates(url).compared == 9
    assert pipeline.verify(url).clean


@pytest.mark.slow
@pytest.mark.parametrize(
    ("indexing", "grouping", "extracting"),
    [
        ("fsync", "before commit duplicates", "before write runs"),
        ("before write index", "after write part-", "before commit features"),
        ("after write index", "after commit duplicates", "after commit errors"),
    ],
)
def test_kill_9_of_index_duplicates_and_a_night_at_the_same_time(
    indexing, grouping, extracting, changed_photos, photos, tmp_path
):
    output = shutil.copytree(changed_photos / "out", tmp_path / "out")
    pipeline.index(output)
    pipeline.duplicates(output)
    more = make_folder(tmp_path / "more", photos, "brick grass")
    images = changed_photos / "images"
    shutil.copy(images / "camera.jpg", more / "camera-copy.jpg")
    night = ["extract", "--input", images, "--input", more, "--output", output]
    killed = [
        start_killed(indexing, "index", output, "--rebuild", "--index-bytes", "1"),
        start_killed(grouping, "duplicates", output, "--cosine", "0.95"),
        start_killed(extracting, *night),
    ]
    assert [process.wait(timeout=200) for process in killed] == [-9, -9, -9]
    assert groups_of(output) == EXPECTED
    photo = str(images / "coffee.jpg")
    assert photo in pipeline.search(output, image=photo, k=2)["uri"].to_pylist()
    assert "7 images in 3 groups" in str(pipeline.show(output))
    assert main([str(word) for word in night]) == 0
    assert pipeline.index(output).facts.rows == 13
    pipeline.duplicates(output)
    assert groups_of(output) == sorted([["camera", "camera-copy"], *EXPECTED])
    assert pipeline.verify(output).clean
    for note in (output / "announced").iterdir():
        # As if the commands had been killed long ago.
        os.utime(note, (0, 0))
    freed = pipeline.vacuum(output, FORTNIGHT, now=later())
    assert parts(output, "duplicates") == live(output, "duplicates")
    assert not freed.left_alone


def start_killed(point, *words):
    """Start a command that kills itself at the first point of a name."""
    command = [sys.executable, "-m", "tests.helpers.killed", point, "1", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
