"""Find near-duplicates of real photos, night after night."""

import shutil

import numpy as np
import pytest
from deltalake import DeltaTable
from PIL import Image

import pipeline
from pipeline.cli import main
from pipeline.grouping.candidates import NEIGHBOURS, candidates
from pipeline.grouping.confirm import MAX_BITS, hamming
from pipeline.grouping.find import DuplicatesConfig, duplicates
from pipeline.grouping.sketch import Sketcher
from pipeline.grouping.stars import stars
from pipeline.grouping.store import Done, Store
from tests.helpers.groups import EXPECTED, change, config, groups_of
from tests.helpers.runs import make_folder
from transforms.errors import Damaged, Refused, UserError
from transforms.phash import phash
from transforms.storage import open_storage


def test_groups_hold_what_is_the_same_picture_and_nothing_else(root, capsys):
    assert main(["duplicates", str(root / "out"), "--html", str(root / "d.html")]) == 0
    assert groups_of(root / "out") == EXPECTED
    assert "7 of 10 images are in 3 groups" in capsys.readouterr().out
    page = (root / "d.html").read_text()
    assert page.count("data:image/jpeg") == 7
    assert page.count("representative") == 3
    for row in DeltaTable(f"{root}/out/duplicates").to_pyarrow_table().to_pylist():
        assert row["cosine"] >= 0.7
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


@pytest.mark.parametrize("damage", ["lost", "half", "bit"])
def test_damaged_groups_are_made_anew(root, caplog, damage):
    duplicates(root / "out")
    [part] = (root / "out/duplicates").glob("*.parquet")
    if damage == "lost":
        part.unlink()
    elif damage == "half":
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    else:
        data = part.read_bytes()
        part.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
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
    with pytest.raises(Refused, match="in the meantime"):
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


def unit_vectors(shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("few", [0, 512])
@pytest.mark.parametrize("noise", [0.05, 0.2, 3])
def test_candidates_are_the_nearest_neighbours(noise, few, monkeypatch):
    """With little noise nearly all pairs are near; with much noise hardly any."""
    monkeypatch.setattr("pipeline.grouping.candidates._FEW", few)
    vectors = unit_vectors((1, 400), 2) + noise * unit_vectors((400, 400), 1)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    vectors[7] = vectors[390] = vectors[391]
    numbers = np.arange(400) * 3
    blocks = [(numbers[:7], vectors[:7]), (numbers[7:], vectors[7:])]
    a, b, cosine = candidates(numbers, vectors, blocks, 0.9)
    exact = vectors @ vectors.T
    np.fill_diagonal(exact, -1)
    for row in range(400):
        best = [n for n in np.argsort(-exact[row])[:NEIGHBOURS] if exact[row, n] >= 0.9]
        np.testing.assert_allclose(cosine[a == 3 * row], exact[row, best], atol=1e-6)
        assert 3 * row not in b[a == 3 * row]
    np.testing.assert_allclose(cosine, exact[a // 3, b // 3], atol=1e-6)


def test_no_dot_product_of_sketches_is_too_low():
    vectors = np.concatenate([unit_vectors((300, 400)), np.eye(400, dtype=np.float32)])
    for sample in (vectors, vectors[:1], np.repeat(vectors[:1], 200, axis=0)):
        sketches = Sketcher.of(sample).sketch(vectors)
        assert sketches.shape == (700, 129)
        assert (sketches @ sketches.T >= vectors @ vectors.T - 1e-6).all()


def test_a_mirror_image_is_near(photos):
    with Image.open(photos / "chelsea.png") as photo:
        pixels = np.asarray(photo.convert("RGB"))
    plain, mirrored = (np.array([phash(p)]) for p in (pixels, pixels[:, ::-1].copy()))
    assert hamming(plain, mirrored)[0] <= MAX_BITS
    differ = (plain ^ mirrored).view(np.uint64)
    assert np.bitwise_count(differ)[0] > MAX_BITS
    assert hamming(plain, plain)[0] == 0
