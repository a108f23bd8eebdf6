"""Several backbones in one run: each table is that of a run of its own, from one decode."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from deltalake import DeltaTable
from PIL import Image

import transforms.decode.pool
import transforms.work
from pipeline import Config, extract_each, verify
from tests.helpers.nets import import_keras
from tests.helpers.runs import make_folder
from tests.helpers.several import SMALL, SMALL_TABLE, night, read, stems


def test_each_table_is_that_of_a_run_of_its_own_to_the_bit(images, base, tmp_path):
    night(images, tmp_path / "lite")
    night(
        images, tmp_path / "small", backbone="MobileNetV3Small", weights="random", input_size=64,
        top_k=3,
    )  # fmt: skip
    assert read(base, "features").equals(read(tmp_path / "lite", "features"))
    assert read(base, SMALL_TABLE).equals(read(tmp_path / "small", "features"))
    assert stems(base, "errors-MobileNetV3Small") == stems(base, "errors") == ["broken"]
    runs = {
        DeltaTable(base / table).to_pyarrow_table(columns=["run_id"])["run_id"][0].as_py()
        for table in ("features", SMALL_TABLE)
    }
    assert len(runs) == 1


def test_an_image_is_decoded_once_for_each_scale_and_resized_once_for_each_input(
    images, tmp_path, seen, monkeypatch
):
    resized = Counter()
    real = transforms.decode.pool.DecodeAndResize.resized

    def count(function, image):
        resized[function.size[0], function.resize] += 1
        return real(function, image)

    monkeypatch.setattr(transforms.decode.pool.DecodeAndResize, "resized", count)
    same_input = "MobileNetV2,weights=random,top-k=0"
    night(images, tmp_path / "out", SMALL, same_input)
    # 8 contents and the broken file. The large JPEG and the two of 300×300 pixels are decoded for
    # 64 pixels at another scale than for 224.
    assert seen["decoded"] == 9 + 3
    assert resized == {(224, "squash"): 8, (64, "squash"): 8}


def test_the_second_night_is_unchanged(own, seen):
    images, output = own
    both = night(images, output, SMALL)
    assert [(each.state, each.unchanged, each.still_failed) for each in both] == [
        ("unchanged", 9, 1)
    ] * 2
    assert not seen
    versions = [DeltaTable(output / table).version() for table in ("features", SMALL_TABLE)]
    assert versions == [0, 0]


def test_new_changed_and_removed_images_reach_each_table(own, photos, tmp_path, seen):
    images, output = own
    make_folder(images / "more", photos, "cell page")
    with Image.open(photos / "coins.png") as image:
        image.convert("RGB").save(images / "coffee.jpg")
    (images / "rocket.jpg").unlink()
    both = night(images, output, SMALL)
    assert [(each.new, each.changed, each.removed, each.embedded) for each in both] == [
        (2, 1, 1, 3)
    ] * 2
    night(images, tmp_path / "anew", SMALL)
    for table in ("features", SMALL_TABLE):
        assert read(output, table).equals(read(tmp_path / "anew", table))
    assert verify(str(output)).clean
    assert verify(str(output), sample=3, table="MobileNetV3Small").clean


def test_a_backbone_that_comes_later_computes_only_its_own_table(images, base, tmp_path, seen):
    output = tmp_path / "out"
    night(images, output)
    seen.clear()
    first, later_on = night(images, output, SMALL)
    assert (first.state, later_on.state, later_on.embedded) == ("unchanged", "published", 8)
    dimension = len(read(output, SMALL_TABLE)["embedding"][0])
    assert set(seen) == {"decoded", dimension}
    assert DeltaTable(output / "features").version() == 0
    assert read(output, SMALL_TABLE).equals(read(base, SMALL_TABLE))
    # A backbone that is left out keeps its table, and catches up when it is given again.
    with Image.open(images / "coffee.jpg") as image:
        image.rotate(90).save(tmp_path / "turned.png")
    extra = tmp_path / "turned.png"
    options = {"max_failure_rate": 0.5}
    inputs = (str(images), str(extra))
    extract_each(Config.of(inputs=inputs, output=str(output), **options))
    both = extract_each(
        Config.of(
            inputs=inputs,
            output=str(output),
            backbones=("efficientnet_lite0", SMALL),
            **options,
        )
    )
    assert [(each.state, each.new) for each in both] == [("unchanged", 0), ("published", 1)]
    assert stems(output, SMALL_TABLE) == stems(output, "features")


def test_a_network_that_fails_on_an_image_leaves_the_other_table_whole(images, tmp_path, seen):
    """On a white image one number of this network's vector overflows."""
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    Image.new("RGB", (40, 40), "white").save(folder / "white.png")
    keras = import_keras()
    inputs = keras.Input((32, 32, 3))
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    dense = keras.layers.Dense(1, activation="exponential")
    model = keras.Model(inputs, keras.layers.Concatenate(name="joined")([mean, dense(mean)]))
    dense.set_weights([np.full((3, 1), 2 / 3, np.float32), np.full(1, -400, np.float32)])
    path = tmp_path / "over flow.keras"
    model.save(path)
    first, second = night(folder, tmp_path / "out", f"{path},preprocess=none,feature-layer=joined")
    assert (first.embedded, first.failed) == (9, 1)
    assert (second.table, second.embedded, second.failed) == ("over_flow", 8, 2)
    assert second.failures_by_kind == {"not_an_image": 1, "non_finite": 1}
    assert stems(tmp_path / "out", "errors-over_flow") == ["broken", "white"]
    assert stems(tmp_path / "out", "errors") == ["broken"]


def test_carried_values_reach_each_table(images, tmp_path, seen):
    """An image may be new for one network while another only copies its vector."""
    manifest, output = tmp_path / "photos.csv", tmp_path / "out"
    inputs = {"inputs": (f"manifest:{manifest}",), "output": str(output), "carry": ("caption",)}

    def carried(backbones: tuple[str, ...], **captions: str) -> tuple:
        lines = [f"{images / name}.jpg,{caption}" for name, caption in captions.items()]
        manifest.write_text("\n".join(["path,caption", *lines]))
        seen.clear()
        return extract_each(Config.of(**inputs, backbones=backbones))

    def captions(table: str) -> dict[str, str]:
        rows = DeltaTable(output / table).to_pyarrow_table(columns=["uri", "source"]).to_pylist()
        return {Path(row["uri"]).stem: row["source"]["caption"] for row in rows}

    both = ("efficientnet_lite0", SMALL)
    carried(both[:1], coffee="a cup", rocket="a rocket")
    now = {"coffee": "an old cup", "rocket": "a rocket"}
    first, second = carried(both, **now)
    assert (first.updated, first.reused, first.embedded) == (1, 1, 0)
    assert (second.new, second.embedded) == (2, 2)
    assert captions("features") == captions(SMALL_TABLE) == now
    now = {"coffee": "a new cup", "rocket": "the rocket"}
    assert [(each.updated, each.reused) for each in carried(both, **now)] == [(2, 2)] * 2
    assert not seen
    assert captions("features") == captions(SMALL_TABLE) == now
