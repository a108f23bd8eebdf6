"""Each option of ``extract`` does what it says; check it in what is published."""

import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.runs import read_errors, read_features, vectors
from transforms.errors import UserError


def make_wide(folder, photos):
    """Make one photo twice as wide as high."""
    folder.mkdir()
    with Image.open(photos / "chelsea.png") as image:
        image.convert("RGB").crop((0, 0, 440, 220)).save(folder / "cat.png")
    return folder


@pytest.fixture
def wide(tmp_path, photos):
    return make_wide(tmp_path / "wide", photos)


@pytest.fixture
def embed_one(run, wide, tmp_path):
    """Return the wide photo's published rows for some options; each call has its own output."""

    def embed(**options):
        output = tmp_path / f"out-{len(list(tmp_path.glob('out-*')))}"
        run(wide, output, **options)
        return read_features(output)

    return embed


@pytest.fixture(scope="module")
def plain_rows(tmp_path_factory, photos):
    """Return the published rows of the wide photo with the options' defaults."""
    from pipeline import Config, extract

    base = tmp_path_factory.mktemp("plain")
    make_wide(base / "wide", photos)
    extract(Config(inputs=(str(base / "wide"),), output=str(base / "out")))
    return read_features(base / "out")


@pytest.fixture(scope="module")
def plain(plain_rows):
    """Return the vector of the wide photo with the options' defaults."""
    return vectors(plain_rows)[0]


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


# Some of these tests change two options at once: each new network takes seconds to export.


def test_normalize_gives_vectors_of_length_one_and_top_k_sets_the_number_of_labels(
    embed_one, plain
):
    rows = embed_one(normalize="l2", top_k=2)
    unit = vectors(rows)[0]
    assert np.linalg.norm(plain) > 2
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain), atol=1e-5)
    assert len(rows["labels"].to_pylist()[0]) == 2


def test_pooling_max_is_nowhere_below_avg_and_top_k_0_gives_no_labels(embed_one, plain):
    rows = embed_one(pooling="max", top_k=0)
    maximum = vectors(rows)[0]
    assert (maximum >= plain - 1e-5).all()
    assert (maximum > plain + 0.1).sum() > 500
    row = rows.to_pylist()[0]
    assert (row["label"], row["score"], row["labels"]) == (None, None, None)


def test_resize_crop_sees_the_middle_square_and_squash_the_whole(
    embed_one, plain, wide, run, tmp_path
):
    crop = vectors(embed_one(resize="crop"))[0]
    assert cosine(plain, crop) < 0.99
    middle = tmp_path / "middle"
    middle.mkdir()
    with Image.open(wide / "cat.png") as image:
        image.crop((110, 0, 330, 220)).save(middle / "cat.png")
    run(middle, tmp_path / "middle-out")
    assert cosine(vectors(read_features(tmp_path / "middle-out"))[0], crop) > 0.999


def test_input_size_changes_what_the_network_sees(embed_one, plain):
    assert 0.3 < cosine(plain, vectors(embed_one(input_size=160))[0]) < 0.99


def test_feature_layer_gives_another_vector_and_labels_come_from_the_file(embed_one, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {i}\n" for i in range(1000)))
    rows = embed_one(feature_layer="predictions", labels=str(names))
    assert vectors(rows).shape[1] == 1000
    row = rows.to_pylist()[0]
    assert row["label"] == f"class {row['labels'][0]['index']}"


def test_engines_agree_in_float32(embed_one, plain):
    slow = vectors(embed_one(engine="tensorflow"))[0]
    np.testing.assert_allclose(slow, plain, rtol=1e-3, atol=1e-3 * np.abs(slow).max())


def test_bfloat16_is_another_recipe_and_close(embed_one, plain_rows, plain):
    half = embed_one(precision="bfloat16", engine="openvino")
    assert plain_rows["recipe"][0] != half["recipe"][0]
    assert cosine(plain, vectors(half)[0]) > 0.98


def test_a_label_file_of_the_wrong_length_says_both_counts(embed_one, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\n")
    with pytest.raises(UserError, match=r"(?s)2.*1000|1000.*2"):
        embed_one(labels=str(names))


def test_shard_size_sets_the_number_of_parts(run, folder, tmp_path):
    run(folder, shard_size=2)
    assert len(list((tmp_path / "out/features").glob("part-*.parquet"))) == 3
    assert read_features(tmp_path / "out").num_rows == 6


def test_shard_bytes_ends_shards_of_large_images(run, folder, tmp_path):
    run(folder, shard_bytes=1)
    assert len(list((tmp_path / "out/features").glob("part-*.parquet"))) == 6
    assert read_features(tmp_path / "out").num_rows == 6


@pytest.mark.parametrize(
    ("limit", "kind"), [("max_image_bytes", "too_large"), ("max_pixels", "too_many_pixels")]
)
def test_limits_turn_images_into_failures(run, folder, tmp_path, limit, kind):
    summary = run(folder, max_failure_rate=1, **{limit: 100})
    assert summary.failures_by_kind == {kind: 6}
    assert {error["kind"] for error in read_errors(tmp_path / "out")} == {kind}


def test_max_failure_rate_is_a_share_of_the_images_tried(run, folder, tmp_path):
    (folder / "empty.jpg").write_bytes(b"")
    from transforms.errors import Refused

    with pytest.raises(Refused):
        run(folder, max_failure_rate=0.1)
    assert run(folder, max_failure_rate=0.15).published


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading", "multi_processing"])
def test_local_workers_all_give_the_same_table(run, folder, tmp_path, mode, monkeypatch):
    """Processes start even where the path of Python has a space."""
    python = tmp_path / "with space" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    run(folder, tmp_path / "one")
    args = ("--direct_num_workers=2", f"--direct_running_mode={mode}")
    run(folder, tmp_path / "two", shard_size=2, beam_args=args)
    one, two = read_features(tmp_path / "one"), read_features(tmp_path / "two")
    assert one["uri"].equals(two["uri"])
    np.testing.assert_allclose(vectors(one), vectors(two), atol=1e-5)


def test_a_list_may_name_images_that_are_not_there(run, folder, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text(f"{folder}/chelsea.jpg\n{folder}/none.jpg\n")
    summary = run(f"list:{names}", max_failure_rate=0.5)
    assert (summary.listed, summary.embedded, summary.failed) == (2, 1, 1)
    [error] = read_errors(tmp_path / "out")
    assert (error["uri"], error["stage"], error["kind"]) == (
        f"{folder}/none.jpg",
        "read",
        "not_found",
    )


def test_a_glob_takes_what_it_matches_and_a_folder_only_images(run, folder, tmp_path):
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_bytes((folder / "coffee.jpg").read_bytes())
    assert run(folder, tmp_path / "a").listed == 6
    summary = run(f"{folder}/**", tmp_path / "b", max_failure_rate=0.5)
    assert (summary.listed, summary.failures_by_kind) == (7, {"not_an_image": 1})


def test_names_with_odd_characters_keep_them(run, folder, tmp_path):
    names = ["a b.jpg", "ünï.jpg", "h#1.jpg", "100%25.jpg", "q?[1].jpg"]
    odd = tmp_path / "odd # names"
    odd.mkdir()
    for name in names:
        (odd / name).write_bytes((folder / "coffee.jpg").read_bytes())
    run(odd, tmp_path / "out # 1")
    assert sorted(read_features_of(tmp_path / "out # 1")) == sorted(
        str(odd / name) for name in names
    )


def read_features_of(output):
    from deltalake import DeltaTable

    return DeltaTable(output / "features").to_pyarrow_table(columns=["uri"])["uri"].to_pylist()
