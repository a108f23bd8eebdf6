"""Search real photos: the vectors are right, the order is exact, and conditions hold."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import pipeline
from pipeline.cli import main
from pipeline.retrieval.blocks import Block, Cache, read_blocks, scale_of
from pipeline.retrieval.exact import HITS, Allowed, normalize, search_blocks
from pipeline.retrieval.where import matching_uris
from tests.helpers.outputs import live
from tests.helpers.runs import make_folder, read_features, vectors
from transforms.errors import Damaged, UserError
from transforms.parts.write import write_part
from transforms.storage import open_storage


@pytest.fixture(scope="module")
def output(two_nights):
    return two_nights / "out"


@pytest.fixture(scope="module")
def images(two_nights):
    return two_nights / "images"


def reference(table, query):
    """Return (uri, cosine) of all rows, best first, in float64."""
    matrix = vectors(table).astype(np.float64)
    cosines = matrix @ query / np.linalg.norm(matrix, axis=1) / np.linalg.norm(query)
    uris = table["uri"].to_pylist()
    return [(uris[row], cosines[row]) for row in np.argsort(-cosines)]


def test_each_photo_finds_itself_and_all_others_in_order(output, images):
    table = read_features(output)
    for row, uri in enumerate(table["uri"].to_pylist()):
        expected = reference(table, vectors(table)[row].astype(np.float64))
        for hits in (pipeline.search(output, image=uri), pipeline.search(output, uri=uri)):
            assert hits.schema == HITS
            assert hits["uri"].to_pylist() == [name for name, _ in expected]
            np.testing.assert_allclose(hits["score"], [cosine for _, cosine in expected], atol=1e-5)
        assert hits["score"][0].as_py() == pytest.approx(1, abs=1e-5)
        assert hits["label"][0].as_py() == table["label"][row].as_py()


def test_search_goes_on_with_the_next_night(two_nights, photos, tmp_path):
    shutil.copytree(two_nights / "images", tmp_path / "images")
    config = pipeline.Config(
        inputs=(str(tmp_path / "images"),), output=str(tmp_path / "out"), max_failure_rate=1
    )
    pipeline.extract(config)
    make_folder(tmp_path / "images" / "more", photos, "brick grass")
    brick = tmp_path / "images/more/brick.jpg"
    assert pipeline.search(tmp_path / "out", image=brick)["score"][0].as_py() < 0.99
    pipeline.extract(config)
    assert pipeline.search(tmp_path / "out", image=brick)["uri"][0].as_py() == str(brick)
    old = pipeline.SearchConfig(version=0)
    uris = pipeline.search(tmp_path / "out", image=brick, config=old)["uri"].to_pylist()
    assert len(uris) == 7
    assert str(brick) not in uris
    with pytest.raises(UserError, match="the newest is 1"):
        pipeline.search(tmp_path / "out", image=brick, config=pipeline.SearchConfig(version=9))


def test_a_row_is_its_own_first_result_among_equal_ones(photos, tmp_path):
    folder = make_folder(tmp_path / "images", photos, "brick grass")
    copies = [str(shutil.copy(folder / "brick.jpg", folder / f"{name}'.jpg")) for name in "abz"]
    pipeline.extract(pipeline.Config(inputs=(str(folder),), output=str(tmp_path / "out")))
    brick, grass = (str(folder / f"{name}.jpg") for name in ("brick", "grass"))
    everyone = {brick, grass, *copies}

    def uris(uri, **options):
        return pipeline.search(tmp_path / "out", uri=uri, **options)["uri"].to_pylist()

    for uri in (brick, *copies):
        assert uris(uri, k=1) == uris(uri, k=1, where="width > 0 -- all") == [uri]
        found = uris(uri)
        assert (found[0], found[-1], set(found)) == (uri, grass, everyone)
        assert len(uris(uri, k=3)) == len(set(uris(uri, k=3)) - {grass}) == 3
    others = uris(copies[-1], where="uri NOT LIKE '%z_.jpg'")
    assert set(others) == everyone - {copies[-1]}


def test_conditions(output, images):
    def names(where, **options):
        hits = pipeline.search(output, image=images / "coffee.jpg", where=where, **options)
        return [Path(uri).name for uri in hits["uri"].to_pylist()]

    everything = names(None)
    assert everything[0] == "coffee.jpg"
    assert names("label <> 'espresso'") == everything[1:]
    assert names("score > 0.5 AND uri LIKE '%chelsea%'") == ["chelsea.jpg"]
    assert names("label = 'nothing'") == []
    assert names("width <= 300", k=2) == everything[:2]


@pytest.mark.parametrize(
    "where",
    [
        "nosuch = 1",
        "embedding[1] > 0",
        "",
        "label =",
        "label = 'x' ORDER BY uri",
        "1=1) UNION SELECT 'evil', 1.0, 'evil'",
        "true; COPY (SELECT 1) TO '{tmp}/evil.csv'",
        "true; ATTACH '{tmp}/evil.db'",
        "EXISTS (SELECT * FROM read_csv('{tmp}/secret.csv'))",
        "EXISTS (SELECT * FROM '{tmp}/secret.csv')",
        "EXISTS (SELECT * FROM read_text('{tmp}/secret.csv'))",
        "EXISTS (SELECT * FROM glob('/*'))",
        "getenv('HOME') <> ''",
        "EXISTS (SELECT * FROM secret)",
        "regexp_matches(label, '(')",
        "regexp_matches(label, uri || '(')",
    ],
)
def test_a_condition_reaches_nothing_but_the_columns(where, output, images, tmp_path, capsys):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    secret = pa.table({"a": [1]})  # noqa: F841 - DuckDB finds variables by their names
    where = where.format(tmp=tmp_path)
    code = main(["search", str(output), "--uri", str(images / "coffee.jpg"), "--where", where])
    said = capsys.readouterr()
    assert code == 2
    assert len(said.err.splitlines()) == 1
    assert "over the columns uri, etag, size" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_the_command_prints_a_table_or_json(output, images, capsys):
    arguments = ["search", str(output), "--image", str(images / "coffee.jpg")]
    assert main([*arguments, "-k", "2"]) == 0
    head, first, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["score", "label", "uri"]
    assert first.split() == ["1.0000", "espresso", str(images / "coffee.jpg")]
    assert main([*arguments, "-k", "2", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [sorted(line) for line in lines] == [["label", "score", "uri"]] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "a cat's nose"], "the backbone efficientnet_lite0 has no text tower"),
        (["--uri", "nobody.jpg"], "no row of this uri"),
        (["--image", "nobody.jpg"], "nobody.jpg: read failed: not_found"),
        (["--image", "{images}/broken.jpg"], "decode failed: not_an_image"),
        (["--image", "{images}/coffee.jpg", "-k", "0"], "must be from 1 to 10,000"),
        (["--image", "{images}/coffee.jpg", "--html", "s3://b/x.html"], "a file on this machine"),
        (["--image", "a", "--uri", "b"], "not allowed with"),
        ([], "one of the arguments --image --uri --text is required"),
        (["--uri", "a", "--table", "other"], "no run has published a table features-other"),
    ],
)
def test_a_mistake_gets_one_line(options, message, output, images, capsys):
    assert main(["search", str(output), *(o.format(images=images) for o in options)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_no_output_and_two_queries(tmp_path, output):
    with pytest.raises(UserError, match="no run has published there"):
        pipeline.search(tmp_path, uri="a")
    with pytest.raises(UserError, match="2 things to search for"):
        pipeline.search(output, uri="a", text="b")


def test_the_page_shows_pictures_and_no_markup_of_a_name(photos, tmp_path):
    images = make_folder(tmp_path / "images", photos, "coffee chelsea rocket")
    hostile = images / "<img src=x onerror=alert(1)>&\"'\u202egpj.jpg"
    shutil.copy(images / "coffee.jpg", hostile)
    pipeline.extract(pipeline.Config(inputs=(str(images),), output=str(tmp_path / "out")))
    (images / "rocket.jpg").unlink()
    (images / "chelsea.jpg").write_bytes((images / "coffee.jpg").read_bytes())
    page = tmp_path / "page.html"
    arguments = ["search", str(tmp_path / "out"), "--image", str(hostile), "--html", str(page)]
    assert main(arguments) == 0
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#x27;" in text
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) == 2
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as picture:
        assert max(picture.size) == 256
    assert re.findall(r"no picture: [^<]*", text) != []
    assert "script" not in text
    assert "default-src 'none'" in text


def test_a_damaged_part_stops_the_search_in_one_line(output, images, tmp_path, capsys):
    copy = shutil.copytree(output, tmp_path / "out")
    part = copy / "features" / live(copy)[0]
    part.write_bytes(part.read_bytes()[:-100])
    for extra in ([], ["--where", "label = 'espresso'"]):
        code = main(["search", str(copy), "--uri", str(images / "coffee.jpg"), *extra])
        said = capsys.readouterr().err
        assert code == 1
        assert len(said.splitlines()) == 1
        assert "repair" in said
    part.unlink()
    with pytest.raises(Damaged, match="not there any more"):
        pipeline.search(copy, uri=str(images / "coffee.jpg"))


def made_parts(folder, count, rows, dimension=64):
    """Write parts of made vectors, one of zeros among them; return their paths and all rows."""
    random = np.random.default_rng(5)
    storage = open_storage(str(folder))
    paths, all_vectors, all_uris = [], [], []
    for number in range(count):
        numbers = np.abs(random.standard_normal((rows, dimension), np.float32))
        numbers[3] = 0
        uris = [f"{number:03d}/{row:05d}" for row in range(rows)]
        element = pa.field("element", pa.float32(), nullable=False)
        table = pa.table(
            {
                "uri": uris,
                "run_id": ["run"] * rows,
                "recipe": ["recipe"] * rows,
                "label": [str(row % 7) for row in range(rows)],
                "embedding": pa.FixedSizeListArray.from_arrays(
                    pa.array(numbers.ravel()), type=pa.list_(element, dimension)
                ),
            }
        )
        paths.append(write_part(storage, table, "", f"part-{number}", {}).path)
        all_vectors.append(numbers)
        all_uris += uris
    return storage, paths, np.concatenate(all_vectors), np.array(all_uris)


@pytest.mark.parametrize("k", [1, 10, 2000])
@pytest.mark.parametrize("cache_bytes", [0, 300_000, 1 << 30])
def test_many_parts_give_what_one_matrix_gives(tmp_path, k, cache_bytes):
    storage, paths, matrix, uris = made_parts(tmp_path, 13, 400)
    queries = normalize(matrix[[7, 1234]] + np.float32(0.1))
    scores = normalize(matrix).astype(np.float64) @ queries.T
    cache = Cache(cache_bytes)
    odd = Allowed(pa.array(uris[[int(uri[-1]) % 2 == 1 for uri in uris]].tolist()))
    is_odd = np.array([int(uri[-1]) % 2 == 1 for uri in uris])
    for allowed, mask in ((Allowed(), slice(None)), (odd, is_odd)):
        for _ in range(2):
            found = search_blocks(queries, read_blocks(storage, paths, cache), k, allowed)
            for number, hits in enumerate(found):
                column, names = scores[mask, number], uris[mask]
                order = np.argsort(-column, kind="stable")[:k]
                np.testing.assert_allclose(hits["score"], column[order], atol=1e-5)
                assert set(hits["uri"].to_pylist()) == set(names[order])
    assert cache.size <= cache_bytes


def test_equal_scores_are_sorted_by_uri():
    numbers = np.ones((6, 4), np.float32)
    rows = pa.table({"uri": list("fbdace"), "run_id": ["r"] * 6, "label": [None] * 6})
    block = Block("p", rows, numbers, scale_of(numbers))
    assert search_blocks(normalize(numbers[:1]), [block], 9)[0]["uri"].to_pylist() == list("abcdef")


def test_a_bucket(s3, two_nights, images):
    output = two_nights / "out"
    for file in output.rglob("*"):
        if file.is_file():
            s3.put(f"out/{file.relative_to(output)}", file.read_bytes())
    here = pipeline.search(output, image=images / "coffee.jpg", where="width > 0")
    there = pipeline.search(f"{s3.url}/out", image=images / "coffee.jpg", where="width > 0")
    assert here.equals(there)


def test_matching_uris_of_no_rows(output):
    table = pipeline.Searcher(str(output)).table
    assert len(matching_uris(table, "false")) == 0
