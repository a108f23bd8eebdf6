"""The report of a night: its figures equal those of tables and receipts, whatever happened."""

import json
import shutil
from collections import Counter
from datetime import datetime
from html import unescape

import numpy as np
import pyarrow as pa
import pytest

from pipeline import Config, ReportConfig, extract, report_night
from pipeline.cli import main
from pipeline.reports.night.drift import measure
from pipeline.reports.text import size_text
from pipeline.state.run import latest_run
from tests.helpers.outputs import break_off
from tests.helpers.reported import make_nights, night, numbers
from tests.helpers.runs import read_errors, read_features
from transforms.storage import open_storage


@pytest.fixture(scope="module")
def nights(tmp_path_factory, photos):
    """Make three nights; for reading only."""
    return make_nights(tmp_path_factory.mktemp("nights"), photos)


@pytest.fixture
def output(nights, tmp_path):
    """Copy the output after the last night."""
    return shutil.copytree(nights / "out", tmp_path / "out")


def test_a_first_night_has_nothing_to_compare(nights):
    made = report_night(nights / "out-0-31", ReportConfig(pictures=False))
    assert made.verdict.sentence == (
        "Published version 0: 240 new images, 0 failed, nothing unusual."
    )
    assert made.drift is None
    assert "too few earlier or new images" in made.html
    assert "No image failed." in made.html


def test_a_night_of_the_same_kind_of_images_is_usual(nights):
    made = report_night(nights / "out-60-31", ReportConfig(pictures=False))
    assert not made.verdict.unusual, made.verdict
    assert made.drift.novelty <= 0.05


def test_a_night_of_other_images_is_named(output, capsys):
    made = report_night(output)
    assert made.verdict.drifts
    assert "of the new images are unlike any earlier one" in made.verdict.sentence
    assert made.drift.novelty > 0.5
    assert main(["report", str(output), "--json", "--fail-on-drift"]) == 1
    assert json.loads(capsys.readouterr().out)["novelty"] == round(made.drift.novelty, 4)
    assert main(["report", str(output), "--json"]) == 0


def test_each_count_equals_what_tables_and_receipts_say(output):
    storage = open_storage(str(output))
    page = report_night(output).html
    run = latest_run(storage)
    rows, receipts = read_features(output), run.receipts(storage)
    own = rows.filter(pa.compute.equal(rows["run_id"], run.run_id))
    assert (own.num_rows, rows.num_rows) == (60, 380)
    assert numbers(page, "listed") == ["381", "280"]
    assert numbers(page, "new") == ["61", "160"]
    assert numbers(page, "changed") == numbers(page, "removed") == ["0", "0"]
    assert numbers(page, "failed") == ["1", "0"]
    # Three nights: a bar for each.
    assert page.partition("listed, the last nights")[2].partition("</svg>")[0].count("<rect") == 3
    took = datetime.fromisoformat(run.ended_at) - datetime.fromisoformat(run.started_at)
    assert numbers(page, "images/s")[0] == f"{61 / took.total_seconds():,.0f}"
    folder = own["uri"][0].as_py().rsplit("/", 1)[0]
    assert numbers(page, folder) == ["60"]
    read = sum(receipt.bytes_read for receipt in receipts)
    wrote = sum(receipt.part.size for receipt in receipts)
    said = f"read {size_text(read)}, wrote {size_text(wrote)}; the table has 380 rows."
    assert said in page
    [failed] = read_errors(output)
    assert numbers(page, failed["kind"])[:2] == ["1", "0"]
    assert failed["message"].split(",")[0] in unescape(page)
    seconds = Counter()
    for receipt in receipts:
        seconds.update(receipt.seconds)
    for stage, taken in seconds.items():
        share = f"{taken / sum(seconds.values()):.0%}"
        assert numbers(page, stage)[:2] == [f"{taken:,.1f} s", share]


def test_what_is_said_of_labels_and_vectors_equals_what_the_table_says(output):
    made = report_night(output)
    page = made.html
    rows = read_features(output)
    own = rows.filter(pa.compute.equal(rows["run_id"], made.run_id))
    best = own["label"].value_counts().to_pylist()
    for entry in sorted(best, key=lambda entry: -entry["counts"])[:3]:
        label, count = entry["values"], entry["counts"]
        every = pa.compute.sum(pa.compute.equal(rows["label"], label)).as_py()
        assert numbers(page, label) == [f"{count:,}", f"{count / 60:.1%}", f"{every / 380:.1%}"]
    least = own.sort_by("score").slice(0, 1).to_pylist()[0]
    assert f"<b>{least['label']} {least['score']:.2f}</b>" in page
    found = np.array(own["embedding"].to_pylist(), np.float32)
    lengths = np.linalg.norm(found, axis=1)
    assert "Lengths of 60 new vectors; 0 are zero." in page
    assert f">{lengths.min():.3g}<" in page
    assert f">{lengths.max():.3g}<" in page
    earlier = rows.filter(pa.compute.not_equal(rows["run_id"], made.run_id))
    drawn = earlier.sort_by([("content_sha256", "ascending"), ("uri", "ascending")])
    drift = measure(np.array(drawn["embedding"].to_pylist(), np.float32), found)
    assert numbers(page, "unlike any earlier image (novelty)") == [f"{drift.novelty:.1%}", "3%"]
    assert numbers(page, "numbers of the vector that differ") == [f"{drift.components:.1%}", "20%"]
    assert float(numbers(page, "new told from earlier (separability)")[0]) == pytest.approx(
        drift.separability, abs=0.01
    )
    assert f"<b>cosine {drift.nearest.min():.3f}</b>" in page
    recipe = page.partition("<h2>Recipe")[2]
    for field, value in latest_run(open_storage(str(output))).recipe.items():
        assert numbers(recipe, field) == [str(value)]


def test_an_earlier_night_is_compared_with_the_nights_before_it(output):
    first, second, third = sorted(path.name for path in (output / "runs").iterdir())
    made = report_night(output, ReportConfig(run_id=second, pictures=False))
    assert made.verdict.sentence.startswith("Published version 1: 80 new images")
    assert numbers(made.html, "listed") == ["320", "240"]
    assert f"--run {first}" in made.html
    assert third not in made.html


def test_a_page_shows_images_only_if_asked_for(output):
    page = report_night(output).html
    assert page.count("<img ") == 24 + 12 + 12
    assert len(page) < 2_000_000
    assert "<img" not in report_night(output, ReportConfig(pictures=False)).html


def test_every_name_is_text(output):
    page = report_night(output).html
    assert "<script" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize("width", [400, 1600])
def test_a_browser_shows_the_page(output, tmp_path, browser, width):
    assert main(["report", str(output), "--html", str(tmp_path / "night.html")]) == 0
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.open((tmp_path / "night.html").as_uri())
    assert browser.value("document.querySelectorAll('img').length") == 48
    assert browser.value("[...document.images].every(one => one.naturalWidth > 0)")
    assert browser.value("document.scrollingElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('td svg')].map(one => one.clientWidth)"
    assert min(browser.value(wide)) > 60
    assert not browser.problems


def test_a_refused_night_is_reported(nights, tmp_path, capsys):
    shutil.copytree(nights / "out", tmp_path / "out")
    (tmp_path / "crops").mkdir()
    for number in range(8):
        (tmp_path / f"crops/{number}.jpg").write_bytes(b"no image")
    words = ["extract", "--input", str(nights / "crops"), "--input", str(tmp_path / "crops")]
    words += ["--output", str(tmp_path / "out"), "--max-failure-rate", "0"]
    assert main([*words, "--report", str(tmp_path / "night.html")]) == 1
    page = (tmp_path / "night.html").read_text()
    assert "Refused, nothing was published: 8 new images, 8 failed" in page
    assert "8 images failed instead of 0" in page
    assert numbers(page, "not_an_image")[0] == "8"


def test_an_unfinished_night_is_reported(nights, tmp_path, monkeypatch):
    make = tmp_path / "crops"
    shutil.copytree(nights / "crops/rocket", make, ignore=shutil.ignore_patterns("*script*"))
    break_off(lambda: night(tmp_path, "new"), monkeypatch)
    made = report_night(tmp_path / "new")
    assert made.verdict.sentence.startswith("Not finished, nothing is published yet: 60 images")
    night(tmp_path, "new")
    assert report_night(tmp_path / "new").verdict.sentence.startswith("Published version 0")
    night(tmp_path, "new")
    assert report_night(tmp_path / "new").verdict.sentence.startswith("Nothing was to be done")


def test_a_report_that_cannot_be_written_changes_nothing_of_the_run(nights, tmp_path, caplog):
    shutil.copytree(nights / "out", tmp_path / "out")
    words = ["extract", "--input", str(nights / "crops"), "--output", str(tmp_path / "out")]
    assert main([*words, "--report", f"{nights}/crops/coffee/000.jpg/night.html"]) == 0
    assert "no report was written" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_the_reference_stays_and_is_drawn_anew_when_damaged(output, damage):
    first = report_night(output, ReportConfig(pictures=False))
    kept = output / "reference/features.npz"
    before = kept.read_bytes()
    assert report_night(output, ReportConfig(pictures=False)).html == first.html
    assert kept.read_bytes() == before
    if damage == "cut":
        kept.write_bytes(before[: len(before) // 2])
    else:
        np.savez(kept, facts='{"rows": 1}', uris="[]", vectors=np.zeros((3, 4)))
    assert report_night(output, ReportConfig(pictures=False)).drift.novelty == first.drift.novelty
    with np.load(kept) as known:
        assert len(known["vectors"]) == 320


def test_an_image_that_left_the_table_leaves_the_reference(output, nights):
    report_night(output, ReportConfig(pictures=False))
    inputs = tuple(str(path) for path in sorted((nights / "crops").iterdir())[1:])
    extract(Config(inputs=inputs, output=str(output), max_failure_rate=1, max_removed_rate=1))
    assert "/astronaut/" not in "".join(read_features(output)["uri"].to_pylist())
    report_night(output, ReportConfig(pictures=False))
    with np.load(output / "reference/features.npz") as known:
        assert len(known["vectors"]) == 240
        assert "/astronaut/" not in str(known["uris"])


def test_a_mistake_is_one_clear_line(output, tmp_path, capsys):
    for words, message in (
        ([str(tmp_path / "nothing")], "no run has got as far as a plan"),
        ([str(output), "--run", "20200101T000000Z-0000"], "no run 20200101T000000Z-0000"),
        ([str(output), "--table", "x"], "no run has published a table features-x"),
        ([str(output), "--html", f"{tmp_path}/"], "name one for the page"),
        ([str(output), "--html", ""], "name one for the page"),
    ):
        assert main(["report", *words]) == 2
        said = capsys.readouterr().err.strip()
        assert message in said
        assert len(said.splitlines()) == 1


def test_a_report_of_a_bucket_lies_in_the_bucket(nights, s3, tmp_path):
    crops = nights / "crops/chelsea"
    for path in sorted(crops.iterdir())[:3]:
        s3.put(f"in/{path.name}", path.read_bytes())
    words = ["extract", "--input", f"{s3.url}/in", "--output", f"{s3.url}/out"]
    assert main([*words, "--report", f"{s3.url}/reports/night.html"]) == 0
    stored = s3.get("reports/night.html")
    assert b"Published version 0: 3 new images" in stored
    assert stored.count(b"<img ") == 6
    assert main(words) == 0
    keys = [entry.key for entry in open_storage(f"{s3.url}/out").list("runs/")]
    assert len([key for key in keys if key.endswith("/report.html")]) == 1
