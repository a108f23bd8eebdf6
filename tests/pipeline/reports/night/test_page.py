"""The template of a night's page: names are text, and a value that is missing is an error."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from jinja2 import UndefinedError

from pipeline.cli import main
from pipeline.reports.charts import histogram
from pipeline.reports.night.content import Content
from pipeline.reports.night.drift import measure
from pipeline.reports.night.facts import Facts, Failure, Night
from pipeline.reports.night.page import night_page, templates
from pipeline.reports.night.pictures import Pictures, Shown
from pipeline.reports.night.sample import Sample
from pipeline.reports.night.sources import rows_by_source
from pipeline.reports.night.verdict import Verdict
from pipeline.state.run import Run
from pipeline.state.summary import Summary
from transforms.errors import FailureKind, ImageError

# For a page's text, its attributes, its templates, its lines and the reader's eyes.
ATTACK = """</title><img src=x onerror="alert(1)"> ' {{ 7 * 7 }} {% raw %} \u202e\n\0"""


def made(name):
    """Return all that a page shows, with this name for everything that has one."""
    inputs = (name.replace("\0", ""), "list:x")
    run = Run(name, name, inputs, {name: name}, "published", table=name)
    counts = Summary(name, listed=3, new=3, embedded=2, failed=1, seconds={name: 1.5})
    night = Night(run, replace(counts, failures_by_kind={name: 1}))
    rows = {"uri": [f"{name}/1", f"{name}/2"], "label": [name, name], "score": [0.5, 0.6]}
    vectors = np.random.default_rng(0).normal(size=(2, 60, 8)).astype(np.float32)
    missing = ImageError("read", FailureKind.NOT_FOUND, name)
    return Content(
        Facts(name, night, [night], [Failure(name, name, name)], pa.table(rows), {name: 2}, 2),
        Verdict(name, [name], False),
        Sample((name,) * 60, vectors[0]),
        Sample((name,) * 60, vectors[1]),
        measure(*vectors),
        Pictures({name: [Shown(name, name, b"x"), Shown(name, "", missing)]}),
    )


class Parsed(HTMLParser):
    """The tags of a page with the names of their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("link", ["", "../before/report.html"])
def test_no_name_changes_what_the_page_is_made_of(link):
    page = night_page(made(ATTACK), link)
    seen = Parsed(page)
    assert seen.tags == Parsed(night_page(made("harmless"), link)).tags
    assert (("a", ["href"]) in seen.tags) == bool(link)
    assert ("img", ["alt", "src"]) in seen.tags
    # In the title, the heading, the cells of each table and more.
    assert seen.text.count("{{ 7 * 7 }} {% raw %} \\u202e\\n\\x00") > 15
    assert not {"\u202e", "\0"} & set(page)
    assert "default-src 'none'" in page


def test_a_page_says_why_it_shows_no_images():
    page = night_page(replace(made("a b"), pictures=None))
    assert "<img" not in page
    assert "report 'a b' --run 'a b' --table 'a b' --html night.html" in Parsed(page).text


def test_a_value_that_is_missing_is_an_error():
    template = templates().from_string("{{ facts.nothing }}")
    with pytest.raises(UndefinedError, match="nothing"):
        template.render(facts=made("x").facts)


@pytest.mark.parametrize("words", [["report", "o", "--html", "f"], ["publish", "o", "--report=f"]])
def test_a_page_without_the_extra_is_refused_before_the_work(words, capsys, monkeypatch):
    monkeypatch.setattr("pipeline.reports.html.find_spec", lambda name: None)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("image-features: the page of a night needs jinja2. pip install '")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("place", ["", "/", "new/", "/tmp", "/dev/null", "s3://bucket/"])
def test_a_place_that_is_no_file_is_refused_before_the_work(place, capsys):
    assert main(["publish", "nowhere", "--report", place]) == 2
    assert "is no file; name one for the page" in capsys.readouterr().err


def test_rows_are_counted_by_the_start_of_their_names():
    inputs = ("/a", "/a/b/", "/c/x*.tar", "list:names.txt")
    uris = ["/a/1.jpg", "/a/b/2.jpg", "/ab/3.jpg", "/c/x1.tar::4.jpg", "/c/y.tar::5.jpg"]
    counted = rows_by_source(inputs, pa.chunked_array([uris]))
    assert counted == [("/a", 2), ("/a/b", 1), ("/c/x*", 1), ("lists and manifests", 2)]
    assert rows_by_source(("/a",), pa.chunked_array([uris])) == []
    assert rows_by_source(("/a", "/c"), pa.chunked_array([[]], pa.string())) == [
        ("/a", 0),
        ("/c", 0),
    ]


def test_the_cost_is_that_of_the_seconds_in_the_receipts():
    content = made("x")
    assert "Cost:" not in night_page(content)
    assert "Cost: 0.5 = 0.000417 hours of workers × 1200.0" in night_page(
        replace(content, price=1200.0)
    )


def test_lengths_that_are_all_about_1_are_drawn():
    """``--normalize l2`` gives such lengths; float32 has too few numbers between them."""
    lengths = np.float32(1) + np.arange(-2, 3, dtype=np.float32) * np.float32(6e-8)
    assert len(set(lengths.tolist())) > 2
    assert "<rect" in histogram("lengths", lengths)
