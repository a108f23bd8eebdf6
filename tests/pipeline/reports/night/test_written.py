"""``extract`` writes the page of each night into the folder of its run, however the run ends."""

import shutil
from datetime import timedelta

import pytest

from pipeline import vacuum
from pipeline.cli import main
from tests.helpers.outputs import later
from tests.helpers.runs import make_folder
from transforms.errors import RunFailed


@pytest.fixture(scope="module")
def first(tmp_path_factory, photos):
    """Make ``images`` and ``out``, with the page of a first night."""
    place = tmp_path_factory.mktemp("written")
    images = make_folder(place / "images", photos, "chelsea coffee camera")
    (place / "inputs.args").write_text(f"--input {images}\n")
    assert night(place) == 0
    return place


@pytest.fixture
def root(first, tmp_path):
    """Copy the first night; its images stay where they are, and ``add`` makes more."""
    ignore = shutil.ignore_patterns("images")
    root = shutil.copytree(first, tmp_path / "root", ignore=ignore)
    (root / "more").mkdir()
    add(root, "one.jpg", (first / "images/coffee.jpg").read_bytes() + b" ")
    return root


def inputs(root):
    more = ["--input", str(root / "more")] if (root / "more").exists() else []
    return [f"@{root}/inputs.args", *more, "--output", str(root / "out")]


def night(root, *words):
    return main(["extract", *inputs(root), *words])


def pages(root):
    """Return the page of each run by the id of the run; "" for a run without one."""
    folders = sorted((root / "out/runs").iterdir())
    files = [folder / "report.html" for folder in folders]
    return {file.parent.name: file.read_text() if file.exists() else "" for file in files}


def add(root, name, data=b"no image"):
    (root / "more" / name).write_bytes(data)


def test_each_night_has_a_page_that_shows_no_images_and_links_to_the_one_before(root):
    assert night(root) == 0
    assert night(root) == 0
    (first, one), (second, two), (_, three) = pages(root).items()
    assert "Published version 0: 3 new images" in one
    assert "<a " not in one
    assert "Published version 1: 1 new image," in two
    assert f'<a href="../{first}/report.html">' in two
    assert "Nothing was to be done" in three
    assert f'<a href="../{second}/report.html">' in three
    assert "<img" not in one + two + three


def test_none_writes_no_page_and_a_night_without_one_is_named_by_its_command(root):
    (folder,) = (root / "out/runs").iterdir()
    (folder / "report.html").unlink()
    assert night(root, "--report", "none") == 0
    assert list(pages(root).values()) == ["", ""]
    add(root, "other.jpg")
    assert night(root, "--max-failure-rate", "1") == 0
    *_, (before, _), (_, page) = pages(root).items()
    assert f"the night before: image-features report {root}/out --run {before}<" in page


def test_without_the_extra_there_is_no_page_and_no_word_of_it(root, monkeypatch, caplog):
    monkeypatch.setattr("pipeline.reports.html.find_spec", lambda name: None)
    assert night(root) == 0
    assert list(pages(root).values())[1:] == [""]
    assert "the report" not in caplog.text


def test_a_run_that_failed_or_was_refused_has_a_page(root, monkeypatch):
    def fail(*_):
        raise RunFailed("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.run.publish", fail)
        assert night(root) == 1
    assert "Not finished, nothing is published yet: 1 image to do" in [*pages(root).values()][-1]
    assert night(root) == 0
    assert "Published version 1: 1 new image," in [*pages(root).values()][-1]
    for number in range(5):
        add(root, f"{number}.jpg")
    assert night(root, "--max-failure-rate", "0") == 1
    assert "Refused, nothing was published: 5 new images" in [*pages(root).values()][-1]


@pytest.mark.parametrize("words", [["--dry-run"], ["--normalize", "l2"], ["--shard-size", "x"]])
def test_a_start_that_ends_no_run_writes_no_page(root, words):
    before = pages(root)
    (folder,) = (root / "out/runs").iterdir()
    written = (folder / "report.html").stat().st_mtime_ns
    night(root, *words)
    assert pages(root) == before
    assert (folder / "report.html").stat().st_mtime_ns == written


def test_an_error_of_the_page_changes_nothing_of_the_run(root, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError("by the page")

    monkeypatch.setattr("pipeline.reports.night.night.report_night", fail)
    assert night(root) == 0
    assert "no report was written: by the page." in caplog.text


def test_the_last_of_three_steps_writes_the_page(root, capsys):
    assert main(["plan", *inputs(root)]) == 0
    assert night(root, "--planned", "--report", str(root / "page.html")) == 2
    assert "'publish' ends the run" in capsys.readouterr().err
    assert night(root, "--planned") == 0
    assert [*pages(root).values()][-1] == ""
    named = root / "page.html"
    words = ["--report", str(named), "--price-per-worker-hour", "1200"]
    assert main(["publish", str(root / "out"), *words]) == 0
    assert "Published version 1" in named.read_text()
    assert "Cost:" in named.read_text()
    assert [*pages(root).values()][-1] == ""


def test_vacuum_deletes_a_page_with_its_run(root):
    assert night(root) == 0
    freed = vacuum(root / "out", timedelta(days=14), now=later())
    assert len(pages(root)) == 1
    assert not freed.left_alone
