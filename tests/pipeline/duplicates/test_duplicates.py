"""Find near-duplicates of real photos, night after night."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable
from PIL import Image

import pipeline
from pipeline.cli import main
from pipeline.duplicates.candidates import NEIGHBOURS, candidates
from pipeline.duplicates.confirm import MAX_BITS, hamming
from pipeline.duplicates.find import DuplicatesConfig, duplicates
from pipeline.duplicates.stars import stars
from pipeline.duplicates.store import SCHEMA, Done, Store
from tests.helpers.runs import make_folder
from transforms.errors import Damaged, Refused, UserError
from transforms.phash import phash
from transforms.storage import open_storage


def change(images: Path) -> None:
    """Make near-duplicates of the photos, one of each kind."""
    with Image.open(images / "chelsea.jpg") as photo:
        photo.save(images / "chelsea-40.jpg", quality=40)
        photo.resize((150, 100)).save(images / "chelsea-small.png")
    with Image.open(images / "rocket.jpg") as photo:
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(images / "rocket-mirror.png")
    shutil.copy(images / "coffee.jpg", images / "coffee-copy.jpg")


@pytest.fixture(scope="module")
def made(tmp_path_factory, photos):
    root = tmp_path_factory.mktemp("duplicates")
    change(make_folder(root / "images", photos))
    pipeline.extract(config(root))
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made / "out", tmp_path / "out")
    # The rows name the images of ``made``, which stay there.
    return tmp_path


def config(root):
    return pipeline.Config(inputs=(str(root / "images"),), output=str(root / "out"))


def groups_of(output):
    table = DeltaTable(f"{output}/duplicates").to_pyarrow_table()
    assert table.schema.names == SCHEMA.names
    found = {}
    for row in table.to_pylist():
        found.setdefault(row["group"], set()).add(Path(row["uri"]).stem)
    return sorted(map(sorted, found.values()))


EXPECTED = [
    ["chelsea", "chelsea-40", "chelsea-small"],
    ["coffee", "coffee-copy"],
    ["rocket", "rocket-mirror"],
]


def test_groups_hold_what_is_the_same_picture_and_nothing_else(root, capsys):
    assert main(["duplicates", str(root / "out"), "--html", str(root / "d.html")]) == 0
    assert groups_of(root / "out") == EXPECTED
    assert "7 of 10 images are in 3 groups" in capsys.readouterr().out
    page = (root / "d.html").read_text()
    assert page.count("data:image/jpeg") == 7
    assert page.count("representative") == 3
    for row in DeltaTable(f"{root}/out/duplicates").to_pyarrow_table().to_pylist():
        assert row["cosine"] >= 0.9
        assert row["hamming"] <= 10


def test_a_second_call_compares_and_writes_nothing(root):
    duplicates(root / "out")
    assert duplicates(root / "out").compared == 0
    assert DeltaTable(f"{root}/out/duplicates").version() == 0


def test_another_cosine_makes_the_groups_anew(root, caplog):
    duplicates(root / "out")
    result = duplicates(root / "out", DuplicatesConfig(cosine=1))
    assert result.compared == 9
    assert groups_of(root / "out") == [["coffee", "coffee-copy"]]
    assert "making it anew" in caplog.text


@pytest.mark.parametrize("damage", ["lost", "half"])
def test_damaged_groups_are_made_anew(root, caplog, damage):
    duplicates(root / "out")
    [part] = (root / "out/duplicates").glob("*.parquet")
    if damage == "lost":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    with pytest.raises(Damaged, match="'image-features duplicates' makes it anew"):
        Store(open_storage(str(root / "out"))).read()
    assert duplicates(root / "out").compared == 9
    assert "is damaged: making the groups anew" in caplog.text
    assert groups_of(root / "out") == EXPECTED
    assert duplicates(root / "out").compared == 0


def test_a_night_adds_and_removes_members(tmp_path, photos):
    images = make_folder(tmp_path / "images", photos)
    change(images)
    pipeline.extract(config(tmp_path))
    duplicates(tmp_path / "out")
    (images / "coffee-copy.jpg").unlink()
    (images / "chelsea.jpg").unlink()
    shutil.copy(images / "camera.jpg", images / "camera-copy.jpg")
    pipeline.extract(config(tmp_path))
    result = duplicates(tmp_path / "out")
    # The last one lost its representative, so its members were compared again.
    assert groups_of(tmp_path / "out") == [
        ["camera", "camera-copy"], ["chelsea-40", "chelsea-small"], ["rocket", "rocket-mirror"],
    ]  # fmt: skip
    assert result.compared <= 2


def test_of_two_commands_one_wins(root):
    duplicates(root / "out")
    storage = open_storage(str(root / "out"))
    slower, faster = Store(storage), Store(storage)
    groups, done = slower.read(), Done("id", "recipe", 7, 0.9)
    faster.replace(groups, done)
    with pytest.raises(Refused, match="another command wrote"):
        slower.replace(groups[:1], done)
    assert Store(storage).read() == groups


def test_a_wrong_cosine_and_an_empty_output_get_one_line(root, tmp_path, capsys):
    with pytest.raises(UserError, match="--cosine 2"):
        DuplicatesConfig(cosine=2)
    assert main(["duplicates", str(tmp_path / "none")]) != 0
    assert "no run has published" in capsys.readouterr().err


def test_groups_are_stars_not_chains():
    chain = [(n, n + 1, 0.95, 3) for n in range(6)]
    groups = stars(chain, {})
    pairs = {(a, b) for a, b, *_ in chain} | {(b, a) for a, b, *_ in chain}
    assert all(member == head or (member, head) in pairs for member, (head, *_) in groups.items())
    assert len({head for head, *_ in groups.values()}) > 1


def test_a_new_content_joins_the_nearest_representative():
    known = {0: (0, 1.0, 0), 1: (1, 1.0, 0), 2: (0, 0.95, 2)}
    groups = stars([(5, 0, 0.91, 4), (5, 1, 0.97, 5)], known)
    assert groups == {**known, 5: (1, 0.97, 5)}


def test_candidates_are_the_nearest_neighbours():
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = np.arange(300)
    blocks = [(numbers[:7], vectors[:7]), (numbers[7:], vectors[7:])]
    a, b, cosine = candidates(numbers, vectors, blocks, 0.5)
    exact = vectors @ vectors.T
    np.fill_diagonal(exact, -1)
    for row in numbers:
        best = [n for n in np.argsort(-exact[row])[:NEIGHBOURS] if exact[row, n] >= 0.5]
        assert b[a == row].tolist() == best
    np.testing.assert_allclose(cosine, exact[a, b], atol=1e-6)


def test_a_mirror_image_is_near(photos):
    with Image.open(photos / "chelsea.png") as photo:
        pixels = np.asarray(photo.convert("RGB"))
    plain, mirrored = (np.array([phash(p)]) for p in (pixels, pixels[:, ::-1].copy()))
    assert hamming(plain, mirrored)[0] <= MAX_BITS
    differ = (plain ^ mirrored).view(np.uint64)
    assert np.bitwise_count(differ)[0] > MAX_BITS
    assert hamming(plain, plain)[0] == 0
