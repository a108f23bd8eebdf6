"""Use the page in a real browser, as a person does."""

import json
import shutil
import threading

import pytest

import pipeline
from pipeline.grouping.find import duplicates
from pipeline.serve.server import PageServer, ServeConfig
from tests.helpers.runs import make_folder

HOSTILE = "<img src=x onerror=alert(1)>\u202egpj.jpg"
NAMES = "camera astronaut rocket motorcycle_left brick grass gravel cell moon page coins"


@pytest.fixture(scope="module")
def images(tmp_path_factory, photos):
    folder = make_folder(tmp_path_factory.mktemp("seen") / "images", photos, f"coffee {NAMES}")
    make_folder(folder / "cats", photos, "chelsea")
    shutil.copy(folder / "cats" / "chelsea.jpg", folder / HOSTILE)
    (folder / "broken.jpg").write_bytes(b"no image")
    # More than one page of them.
    for number in range(60):
        shutil.copy(folder / "moon.jpg", folder / f"moon-{number:02d}.jpg")
    return folder


@pytest.fixture(scope="module")
def url(images):
    output = str(images.parent / "out")
    pipeline.extract(pipeline.Config(inputs=(str(images),), output=output, max_failure_rate=1))
    duplicates(output)
    server = PageServer(ServeConfig(output, port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.url
    server.stop()
    thread.join()


@pytest.fixture
def page(browser, url):
    """Open the page; afterwards its console must be empty."""
    browser.problems.clear()
    browser.resize(1200, 900)
    browser.open(url)
    status(browser, "74 images")
    yield browser
    browser.value("1")
    assert browser.problems == []


def status(page, text):
    page.wait(f"document.getElementById('status').textContent.includes({json.dumps(text)})")


def first(page):
    return page.texts("#grid li")[0]


def loaded(page):
    """Wait until the first picture is there."""
    page.wait("document.querySelector('#grid img').naturalWidth > 0")


def test_drop_a_photo_and_follow_its_neighbours(page, images):
    page.drop(images / "coffee.jpg")
    status(page, "60 nearest images")
    assert first(page).split("\n")[:3] == ["espresso", "1.0000", "coffee.jpg"]
    loaded(page)
    page.wait("document.getElementById('query-picture').naturalWidth > 0")
    other = page.texts("#grid li")[1].split("\n")[-1]
    page.click("#grid li:nth-child(2) a")
    page.wait("location.hash.includes('view=similar')")
    page.wait(f"document.querySelector('#grid a').innerText.includes({json.dumps(other)})")
    assert first(page).split("\n")[1:] == ["1.0000", other]
    page.value("history.back()")
    page.wait("document.querySelector('#grid a').innerText.includes('coffee.jpg')")


def test_filter_and_turn_pages(page):
    page.key("n")
    page.wait("document.getElementById('page-number').textContent === 'page 2 of 2'")
    page.wait("document.querySelectorAll('#grid li').length === 14")
    page.click("#previous")
    page.wait("document.querySelectorAll('#grid li').length === 60")
    page.key("/")
    page.type("/cats/")
    page.key("Enter")
    status(page, "1 image")
    assert first(page).split("\n")[0] == "Egyptian cat"
    page.value("document.querySelector('[name=uri]').value = ''")
    page.value("document.querySelector('[name=where]').focus()")
    page.type("label = 'espresso'")
    page.key("Enter")
    page.wait("document.querySelector('#grid a').innerText.includes('coffee.jpg')")
    page.value("document.querySelector('[name=where]').value = ''")
    page.value("document.querySelector('[name=label]').focus()")
    page.type("EGYPTIAN")
    page.key("Enter")
    status(page, "2 images")


def test_a_hostile_name_is_text(page):
    page.value("location.hash = '#view=all&label=Egyptian'")
    status(page, "2 images")
    names = [text.split("\n")[-1] for text in page.texts("#grid li")]
    assert HOSTILE.replace("\u202e", "\\u202e") in names
    loaded(page)
    assert page.value("document.querySelectorAll('#grid img').length") == 2
    assert page.value("document.querySelectorAll('[onerror]').length") == 0


def test_failures_show_their_reasons(page):
    page.click("header nav a:nth-child(3)")
    status(page, "1 image without a vector")
    assert "not_an_image" in first(page)
    assert "broken.jpg" in first(page)


def test_groups_of_duplicates_start_on_their_own_lines(page):
    page.click("header nav a[href='#view=duplicates']")
    status(page, "63 images in 2 groups")
    assert page.value("document.querySelectorAll('#grid .starts').length") == 2
    page.value("location.hash = '#view=duplicates&label=Egyptian'")
    status(page, "2 images in 1 group of")
    assert "1.0000, 0 bits differ" in first(page)


def test_the_map_is_clicked_zoomed_and_used_by_keyboard(page):
    page.click("header nav a[href='#view=map']")
    status(page, "74 of 74 images, placed by")
    drawn = (
        "(() => { const c = document.getElementById('map-canvas'); return [...c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data].filter((v) => v > 0).length; })()"
    )
    assert page.value(drawn) > 0
    before = page.value("document.getElementById('map-canvas').toDataURL()")
    page.click("#map-in")
    assert page.value("document.getElementById('map-canvas').toDataURL()") != before
    page.click("#map-all")
    assert page.value("document.getElementById('map-canvas').toDataURL()") == before
    page.value("document.getElementById('map-canvas').focus()")
    page.key("ArrowLeft")
    assert page.value("document.getElementById('map-canvas').toDataURL()") != before
    assert page.text("#map-name").endswith(".jpg")
    page.key("0")
    # Click a point: the one that is drawn at the left end.
    x, y = page.value(
        "(() => { const c = document.getElementById('map-canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "for (let x = 0; x < c.width; x++) for (let y = 0; y < c.height; y++)"
        "if (d[4 * (y * c.width + x) + 3] > 200) return [x, y]; })()"
    )
    page.click("#map-canvas", x, y)
    page.wait("location.hash.includes('view=similar')")
    status(page, "nearest images")


def test_only_the_keyboard(page):
    page.key("ArrowRight")
    page.key("ArrowRight")
    page.key("ArrowDown")
    columns = page.value(
        "getComputedStyle(document.getElementById('grid')).gridTemplateColumns.split(' ').length"
    )
    place = "[...document.querySelectorAll('#grid a')].indexOf(document.activeElement)"
    assert page.value(place) == 1 + columns
    name = page.value("document.activeElement.innerText").split("\n")[-1]
    page.key("Enter")
    status(page, "nearest images")
    assert first(page).split("\n")[1] == "1.0000"
    assert name in "\n".join(page.texts("#grid li"))


def test_a_phone_and_the_dark(page):
    page.resize(360, 740)
    loaded(page)
    assert page.value("document.documentElement.scrollWidth") <= 360
    page.dark(False)
    light = page.value("getComputedStyle(document.querySelector('#grid a')).backgroundColor")
    page.dark(True)
    dark = page.value("getComputedStyle(document.querySelector('#grid a')).backgroundColor")
    assert light != dark
    page.value("location.hash = '#view=map'")
    status(page, "placed by")
    assert page.value("document.documentElement.scrollWidth") <= 360
    page.dark(False)


def test_a_bad_photo_says_why(browser, url, images):
    browser.resize(1200, 900)
    browser.open(url)
    status(browser, "74 images")
    browser.drop(images / "broken.jpg")
    status(browser, "not_an_image")
