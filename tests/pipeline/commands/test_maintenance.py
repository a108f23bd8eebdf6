"""The commands history, compact, rollback, vacuum, verify: output, exit codes, and buckets."""

import re
import shutil

import pytest
from deltalake import DeltaTable

from pipeline.cli import main
from pipeline.maintenance.compact import compact
from pipeline.maintenance.history import history
from pipeline.maintenance.rollback import rollback
from pipeline.maintenance.vacuum import vacuum
from pipeline.maintenance.verify import verify
from pipeline.tables import Tables
from tests.helpers.outputs import FORTNIGHT, later
from tests.helpers.runs import make_folder
from transforms.storage import open_storage


def test_history_tells_what_each_version_did(night, own_images, tmp_path):
    night()
    (own_images / "coffee.jpg").write_bytes((own_images / "camera.jpg").read_bytes() + b" ")
    make_folder(own_images / "more", own_images, "rocket chelsea")
    night()
    compact(str(tmp_path / "out"))
    rollback(str(tmp_path / "out"), 0)
    night(resize="crop", rebuild=True)
    header, *lines = str(history(str(tmp_path / "out"))).splitlines()
    assert header.split() == [
        "version",
        "time",
        "(UTC)",
        "operation",
        "run",
        "rows",
        "added",
        "removed",
    ]
    pattern = r"(\d) +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +(.*?) +\d{8}T\S+ +(\d+) +(\d+) +(\d+)"
    told = [re.fullmatch(pattern, line).groups() for line in lines]
    assert told == [
        ("4", "rebuild", "9", "9", "7"),
        ("3", "rollback to 0", "7", "1", "3"),
        ("2", "compact", "9", "0", "0"),
        ("1", "extract", "9", "3", "1"),
        ("0", "extract", "7", "7", "0"),
    ]


def test_history_names_the_versions_of_another_writer(output):
    DeltaTable(output / "features").delete("uri like '%coffee%'")
    line = str(history(str(output))).splitlines()[1]
    assert re.search(r"^2 .*DELETE \(another writer\) +\? +\? +\?$", line)
    assert "receipts" not in [problem.kind for problem in verify(str(output)).problems]


def test_the_commands_print_one_line_or_table_each(output, capsys):
    def told(*words):
        assert main(list(words)) == 0
        return capsys.readouterr().out.splitlines()

    place = str(output)
    assert told("compact", place)[0] == "merged 4 small parts of features into 1: version 2"
    assert told("compact", place) == ["nothing to merge"]
    assert [line.split()[0] for line in told("history", place)] == ["version", "2", "1", "0"]
    [line] = told("rollback", place, "1")
    assert line.startswith(f"rolled back {place} to version 1 of ")
    [line] = told("vacuum", place)
    assert line.startswith("freed nothing; every version that readers saw since ")
    assert told("vacuum", place, "--older-than", "1h", "--dry-run")[-1].startswith(
        "would free nothing"
    )
    assert told("verify", place)[-1].startswith("clean: version 3 of ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["compact", "{tmp}/none"], 2, "nothing in {tmp}/none: no run has published there"),
        (["history", "{tmp}/none"], 2, "nothing in {tmp}/none"),
        (["rollback", "{tmp}/none", "1"], 2, "nothing in {tmp}/none"),
        (["vacuum", "{tmp}/none"], 2, "nothing in {tmp}/none"),
        (["repair", "{tmp}/none"], 2, "nothing in {tmp}/none: no run has published there"),
        (["verify", "{tmp}/none"], 2, "nothing in {tmp}/none"),
        (["rollback", "{out}", "9"], 2, "no version 9"),
        (["rollback", "{out}", "last"], 2, "argument VERSION: invalid int value: 'last'"),
        (
            ["vacuum", "{out}", "--older-than", "14"],
            2,
            "'14': at least 1h; a number and h, d or w, as in 14d",
        ),
        (["vacuum", "{out}", "--older-than", "0d"], 2, "'0d': at least 1h"),
        (["verify", "{out}", "--sample", "-3"], 2, "'-3': a number, 0 or more"),
        (["verify", "{out}", "--sample", "all"], 2, "'all': a number, 0 or more"),
        (["history", "{out}", "--rows", "1"], 2, "unknown option --rows"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(words, code, message, output, tmp_path, capsys):
    places = {"tmp": tmp_path, "out": output}
    assert main([word.format(**places) for word in words]) == code
    [line] = capsys.readouterr().err.splitlines()
    assert message.format(**places) in line


def test_all_of_it_in_a_bucket(s3, images, run, tmp_path):
    copies = shutil.copytree(images, tmp_path / "copies")
    output = f"{s3.url}/deep er/out"
    run(copies, output, max_failure_rate=1, shard_size=3)
    make_folder(copies / "more", images, "coffee")
    run(copies, output, max_failure_rate=1)
    assert str(compact(output)[0]) == "merged 4 small parts of features into 1: version 2"
    assert "features 7 rows, errors 1 rows; readers see it as version 3" in str(rollback(output, 0))
    assert [line.split()[3] for line in str(history(output)).splitlines()[1:]] == [
        "rollback",
        "compact",
        "extract",
        "extract",
    ]
    run(copies, output, max_failure_rate=1)
    before = s3.keys()
    text = str(vacuum(output, FORTNIGHT, now=later()))
    assert re.match(r"freed [\d.]+ KB in 2 parts, \d runs?;", text), text
    gone = sorted(set(before) - set(s3.keys()))
    assert len([key for key in gone if key.startswith("deep er/out/features/part-")]) == 2
    verification = verify(output, sample=20)
    assert verification.clean, str(verification)
    assert verification.sample.same == 8
    live = Tables.open(open_storage(output)).features.parts[0]["path"]
    s3.client.delete_object(Bucket=s3.bucket, Key=f"deep er/out/features/{live}")
    assert "missing" in [problem.kind for problem in verify(output).problems]
