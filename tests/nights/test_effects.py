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
def plain(tmp_path_factory, photos):
    """Return the vector of the wide photo with the options' defaults."""
    from pipeline import Config, extract

    base = tmp_path_factory.mktemp("plain")
    make_wide(base / "wide", photos)
    extract(Config(inputs=(str(base / "wide"),), output=str(base / "out")))
    return vectors(read_features(base / "out"))[0]


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def test_normalize_gives_vectors_of_length_one_in_the_same_direction(embed_one, plain):
    unit = vectors(embed_one(normalize="l2"))[0]
    assert np.linalg.norm(plain) > 2
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain), atol=1e-5)


def test_top_k_sets_the_number_of_labels(embed_one):
    assert len(embed_one(top_k=2)["labels"].to_pylist()[0]) == 2
    row = embed_one(top_k=0).to_pylist()[0]
    assert (row["label"], row["score"], row["labels"]) == (None, None, None)


def test_pooling_max_is_nowhere_below_avg(embed_one, plain):
    maximum = vectors(embed_one(pooling="max"))[0]
    assert (maximum >= plain - 1e-5).all()
    assert (maximum > plain + 0.1).sum() > 500


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


def test_feature_layer_gives_another_vector(embed_one):
    layer = embed_one(feature_layer="predictions")
    assert vectors(layer).shape[1] == 1000


def test_engines_agree_in_float32(embed_one, plain):
    slow = vectors(embed_one(engine="tensorflow"))[0]
    np.testing.assert_allclose(slow, plain, rtol=1e-3, atol=1e-3 * np.abs(slow).max())


def test_bfloat16_is_another_recipe_and_close(embed_one):
    full, half = embed_one(), embed_one(precision="bfloat16", engine="openvino")
    assert full["recipe"][0] != half["recipe"][0]
    assert cosine(vectors(full)[0], vectors(half)[0]) > 0.98


def test_random_weights_are_seeded_and_not_imagenet(embed_one):
    first, second = (
        vectors(embed_one(backbone="MobileNetV2", weights="random"))[0] for _ in range(2)
    )
    assert (first == second).all()
    assert first.shape == (1280,)


def test_labels_come_from_the_file(embed_one, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {i}\n" for i in range(1000)))
    row = embed_one(labels=str(names)).to_pylist()[0]
    assert row["label"] == f"class {row['labels'][0]['index']}"


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
