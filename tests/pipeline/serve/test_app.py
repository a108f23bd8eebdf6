"""Ask the page's server as a browser does, and as an attacker does."""

import io
import shutil
from urllib.parse import quote

import pyarrow as pa
import pytest
from PIL import Image

import pipeline
from pipeline.cli import main
from pipeline.retrieval.searcher import SearchConfig
from pipeline.serve import filters
from pipeline.serve.app import make_app
from pipeline.serve.images import Pictures
from pipeline.serve.library import Library
from tests.helpers.runs import make_folder

TestClient = pytest.importorskip("starlette.testclient").TestClient


def client_of(output, where_seconds=10.0, **options):
    library = Library(str(output), SearchConfig(), check_seconds=0)
    pictures = Pictures(library.searcher.storage, (), **options)
    app = make_app(library, pictures, where_seconds)
    client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    return client, pictures


@pytest.fixture(scope="module")
def images(two_nights):
    return two_nights / "images"


@pytest.fixture(scope="module")
def client(two_nights):
    return client_of(two_nights / "out")[0]


def names(answer):
    assert answer.status_code == 200, answer.text
    return [item["name"].rsplit("/", 1)[-1] for item in answer.json()["items"]]


def test_the_newest_night_and_all(client):
    assert names(client.get("/api/images")) == ["cell.jpg"]
    everything = client.get("/api/images?all=1")
    assert len(names(everything)) == everything.json()["total"] == 7
    assert names(client.get("/api/images?all=1&label=ESPRESSO")) == ["coffee.jpg"]
    assert names(client.get("/api/images?all=1&uri=/new/")) == ["cell.jpg"]
    where = quote("score > 0.5 AND label <> 'espresso'")
    kept = names(client.get(f"/api/images?all=1&where={where}"))
    assert "coffee.jpg" not in kept
    assert 0 < len(kept) < 7
    assert names(client.get("/api/images?all=1&page=1")) == []
    assert client.get("/api/images?page=-1").status_code == 400
    pattern = quote("regexp_matches(label, '(')")
    assert client.get(f"/api/images?all=1&where={pattern}").status_code == 400
    about = client.get("/api/about").json()
    assert (about["rows"], about["failures"], about["version"]) == (7, 1, 1)


def test_failures_with_their_reasons(client):
    (item,) = client.get("/api/failures").json()["items"]
    assert item["kind"] == "not_an_image"
    assert item["message"]
    assert item["name"].endswith("broken.jpg")


def test_groups_of_duplicates(two_nights, tmp_path, photos):
    images = make_folder(tmp_path / "images", photos, "coffee chelsea rocket")
    shutil.copy(images / "coffee.jpg", images / "a-copy.jpg")
    shutil.copy(images / "chelsea.jpg", images / "cat.jpg")
    output = tmp_path / "out"
    config = pipeline.Config(inputs=(str(images),), output=str(output), max_removed_rate=1)
    pipeline.extract(config)
    client, _ = client_of(output)
    none = client.get("/api/duplicates").json()
    assert (none["total"], "image-features duplicates" in none["said"]) == (0, True)
    assert main(["duplicates", str(output)]) == 0
    answer = client.get("/api/duplicates")
    assert answer.json()["said"] == "4 images in 2 groups of near-duplicates"
    assert [item["label"] for item in answer.json()["items"]] == ["espresso"] * 2 + [
        "Egyptian cat"
    ] * 2
    first, second, third, _ = answer.json()["items"]
    assert first["group"] == second["group"] != third["group"]
    assert (first["cosine"], first["hamming"]) == (1, 0)
    asked = {"label": "cat"}
    assert set(names(client.get("/api/duplicates", params=asked))) == {"cat.jpg", "chelsea.jpg"}
    # An image that has left the table is not shown, and its group is known to be old.
    (images / "cat.jpg").unlink()
    pipeline.extract(config)
    later = client.get("/api/duplicates")
    assert set(names(later)) == {"a-copy.jpg", "coffee.jpg", "chelsea.jpg"}
    assert "they stand for version 0" in later.json()["said"]


def test_neighbours_of_a_row_and_of_a_photo(client, images, two_nights):
    uri = str(images / "coffee.jpg")
    expected = pipeline.search(two_nights / "out", uri=uri)
    found = client.get("/api/similar", params={"to": uri}).json()["items"]
    assert [item["uri"] for item in found] == expected["uri"].to_pylist()
    photo = (images / "coffee.jpg").read_bytes()
    found = client.post("/api/similar", content=photo).json()["items"]
    assert [item["uri"] for item in found] == expected["uri"].to_pylist()
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)
    asked = {"to": uri, "label": "cat"}
    assert names(client.get("/api/similar", params=asked)) == ["chelsea.jpg"]
    asked = {"to": uri, "where": "label = 'Egyptian cat'"}
    assert names(client.get("/api/similar", params=asked)) == ["chelsea.jpg"]


def test_only_rows_have_pictures(client, images, tmp_path):
    picture = client.get("/picture", params={"uri": str(images / "coffee.jpg")})
    assert picture.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(picture.content)) as image:
        assert max(image.size) == 256
    # The browser asks each time whether it still is the picture of this uri.
    known = {"uri": str(images / "coffee.jpg")}, {"If-None-Match": picture.headers["etag"]}
    again = client.get("/picture", params=known[0], headers=known[1])
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "private, no-cache"
    other = {"uri": str(images / "chelsea.jpg")}
    assert client.get("/picture", params=other, headers=known[1]).status_code == 200
    shutil.copy(images / "coffee.jpg", tmp_path / "secret.jpg")
    nobody = [str(tmp_path / "secret.jpg"), "/etc/passwd", str(images / "broken.jpg"), ""]
    nobody += [str(images / "new" / ".." / "coffee.jpg"), f"file://{images}/coffee.jpg"]
    for uri in nobody:
        assert client.get("/picture", params={"uri": uri}).status_code == 404, uri
        assert client.get("/api/similar", params={"to": uri}).status_code == 404, uri


@pytest.mark.parametrize(
    "path",
    ["/../app.py", "/%2e%2e/app.py", "/page/../app.py", "//etc/passwd", "/index.html", "/app.py"],
)
def test_only_the_files_of_the_page_are_served(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9000"}, 200),
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "evil.example:8000"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "127.0.0.1:8000.evil.example"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://127.0.0.1:8000"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "image"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "script"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}, 403),
    ],
)
def test_other_hosts_and_pages_get_no_answer(client, headers, status):
    for path in ("/", "/api/images", "/page.js"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == status
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_has_no_inline_script_or_style_and_loads_nothing_from_elsewhere(client):
    page = client.get("/").text
    assert "style=" not in page
    assert "<style" not in page
    assert page.count("<script") == page.count('<script type="module" src="/page.js">') == 1
    for path in ("/", "/page.js", "/map.js", "/page.css"):
        text = client.get(path).text
        assert "http" not in text.replace("https://www.w3.org", "")
        assert "innerHTML" not in text


@pytest.mark.parametrize(
    ("photo", "status", "said"),
    [
        (b"", 422, "empty"),
        (b"no image", 422, "image"),
        (b"\xff\xd8\xff" + bytes(100), 422, ""),
    ],
)
def test_a_bad_photo_gets_a_reason(client, photo, status, said):
    answer = client.post("/api/similar", content=photo)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_a_photo_over_the_limit_is_refused(client, monkeypatch):
    monkeypatch.setattr("pipeline.serve.app.MAX_IMAGE_BYTES", 1000)
    answer = client.post("/api/similar", content=bytes(1001))
    assert answer.status_code == 413
    assert "1,000 bytes" in answer.json()["error"]


@pytest.mark.parametrize("where", ["nosuch = 1", "true; ATTACH '/tmp/evil.db'", "label ="])
def test_a_bad_condition_gets_a_reason(client, where):
    answer = client.get("/api/images", params={"where": where})
    assert answer.status_code == 400
    assert "over the columns" in answer.json()["error"]


@pytest.mark.parametrize("path", ["images?all=1", "map?all=1"])
def test_a_condition_that_takes_too_long_is_given_up(two_nights, path):
    client, _ = client_of(two_nights / "out", where_seconds=0.01)
    endless = "(SELECT count(*) FROM range(1000000000) a, range(1000000000) b) > width"
    answer = client.get(f"/api/{path}&where={quote(endless)}")
    assert answer.status_code == 400
    assert "took longer than 0.01 seconds, which are allowed here. Write" in answer.text


def test_the_answer_to_a_condition_is_kept_for_a_minute(two_nights, monkeypatch):
    asked = []
    client, _ = client_of(two_nights / "out")
    monkeypatch.setattr(filters, "matching_uris", lambda *a: asked.append(a) or pa.array([""]))
    for moment in (600.0, 659.0, 660.0, 661.0):
        monkeypatch.setattr(filters, "monotonic", lambda moment=moment: moment)
        answer = client.get("/api/images?all=1&where=extracted_at%20%3E%20now()")
        assert names(answer) == []
    assert len(asked) == 2


def test_the_cache_of_pictures_is_bounded(two_nights):
    client, pictures = client_of(two_nights / "out", cache_bytes=30_000)
    for item in client.get("/api/images?all=1").json()["items"]:
        answer = client.get("/picture", params={"uri": item["uri"]})
        assert answer.content == client.get("/picture", params={"uri": item["uri"]}).content
        assert 0 < pictures.size <= 30_000


def test_the_next_night_a_changed_and_a_lost_image_and_a_damaged_part(
    photos, tmp_path, monkeypatch
):
    images = make_folder(tmp_path / "images", photos, "coffee chelsea rocket")
    hostile = images / "<img src=x onerror=alert(1)>\u202egpj.jpg"
    shutil.copy(images / "coffee.jpg", hostile)
    config = pipeline.Config(inputs=(str(images),), output=str(tmp_path / "out"))
    pipeline.extract(config)
    client, _ = client_of(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    shown = names(client.get("/api/images"))
    assert "<img src=x onerror=alert(1)>\\u202egpj.jpg" in shown
    assert client.get("/picture", params={"uri": str(hostile)}).status_code == 200
    (images / "rocket.jpg").unlink()
    answer = client.get("/picture", params={"uri": str(images / "rocket.jpg")})
    assert answer.status_code == 422
    (images / "chelsea.jpg").write_bytes((images / "coffee.jpg").read_bytes())
    answer = client.get("/picture", params={"uri": str(images / "chelsea.jpg")})
    assert (answer.status_code, "changed" in answer.json()["error"]) == (422, True)
    client.post("/api/similar", content=hostile.read_bytes())
    # Nothing in the output has changed.
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}

    make_folder(images / "more", photos, "brick")
    pipeline.extract(
        pipeline.Config(inputs=(str(images),), output=str(tmp_path / "out"), max_removed_rate=1)
    )
    assert "brick.jpg" in names(client.get("/api/images"))
    for part in (tmp_path / "out" / "features").glob("*.parquet"):
        part.write_bytes(b"damaged")
    fresh = client.get("/api/similar", params={"to": str(images / "coffee.jpg")})
    assert fresh.status_code == 503
    assert "repair" in fresh.json()["error"]
    assert client.get("/api/failures").status_code == 200


def test_a_table_that_vanishes_and_a_mistake_of_ours(two_nights, tmp_path, monkeypatch):
    output = shutil.copytree(two_nights / "out", tmp_path / "out")
    client, _ = client_of(output)
    shutil.move(output / "features", tmp_path / "aside")
    for path in ("/api/about", "/api/images", "/api/map", "/api/duplicates", "/picture?uri=a"):
        answer = client.get(path)
        assert answer.status_code == 400
        assert "not there any more" in answer.json()["error"]
    shutil.move(tmp_path / "aside", output / "features")
    assert client.get("/api/about").json()["rows"] == 7
    monkeypatch.setattr("pipeline.serve.app.page_of", lambda *_: 1 // 0)
    answer = client.get("/api/images")
    assert (answer.status_code, answer.json()["error"]) == (
        500,
        "integer division or modulo by zero",
    )
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_bucket(s3, two_nights, images):
    for file in (two_nights / "out").rglob("*"):
        if file.is_file():
            s3.put(f"out/{file.relative_to(two_nights / 'out')}", file.read_bytes())
    keys = sorted(s3.keys())
    client, _ = client_of(f"{s3.url}/out")
    assert len(names(client.get("/api/images?all=1"))) == 7
    asked = {"to": str(images / "coffee.jpg"), "where": "width > 0"}
    assert names(client.get("/api/similar", params=asked))[0] == "coffee.jpg"
    photo = (images / "chelsea.jpg").read_bytes()
    assert names(client.post("/api/similar", content=photo))[0] == "chelsea.jpg"
    assert client.get("/picture", params={"uri": str(images / "new/cell.jpg")}).status_code == 200
    assert sorted(s3.keys()) == keys


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "must be from 0 (any free port)"),
        (["--port", "0"], "no run has published there"),
    ],
)
def test_a_mistake_gets_one_line(options, message, tmp_path, capsys):
    assert main(["serve", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
