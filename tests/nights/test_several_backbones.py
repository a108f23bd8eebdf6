"""Several backbones in one run: each table is that of a run of its own, from one decode."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from PIL import Image

import transforms.decode.pool
import transforms.work
from pipeline import Config, extract_each, repair, rollback, verify
from pipeline.cli import main
from pipeline.commands.options import config_of
from pipeline.commands.parser import parse
from pipeline.maintenance.vacuum import vacuum
from pipeline.state.run import load_runs
from pipeline.tables import Tables, pair_names
from tests.helpers.nets import import_keras
from tests.helpers.outputs import later
from tests.helpers.runs import make_folder
from transforms.errors import FailureKind, ImageError, Refused
from transforms.storage import open_storage

SMALL = "MobileNetV3Small,weights=random,input-size=64,top-k=3"
SMALL_TABLE = "features-MobileNetV3Small"
# Columns that differ between two runs of the same images.
_OF_RUN = ("run_id", "extracted_at")


def read(output: Path, table: str) -> pa.Table:
    """Return the published rows of a table without the columns of the run, sorted by URI."""
    files = DeltaTable(f"{output}/{table}").file_uris()
    rows = pa.concat_tables([pq.read_table(file) for file in files]).sort_by("uri")
    return rows.drop_columns(_OF_RUN).combine_chunks().replace_schema_metadata(None)


def stems(output: Path, table: str) -> list[str]:
    rows = DeltaTable(f"{output}/{table}").to_pyarrow_table(columns=["uri"])
    return sorted(Path(uri).stem for uri in rows["uri"].to_pylist())


@pytest.fixture(scope="module")
def images(tmp_path_factory, photos: Path) -> Path:
    """Make small photos, a copy, a broken file, and a photo that networks read at two scales."""
    folder = make_folder(tmp_path_factory.mktemp("several") / "images", photos)
    shutil.copy(folder / "chelsea.jpg", folder / "chelsea-copy.jpg")
    (folder / "broken.jpg").write_bytes(b"not an image")
    with Image.open(photos / "hubble_deep_field.jpg") as image:
        image.convert("RGB").resize((1400, 1200)).save(folder / "large.jpg")
        image.convert("RGB").resize((500, 300)).save(folder / "flat.png")
    return folder


def night(images: Path, output: Path, *more: str, **options):
    """Run the first backbone and further ones."""
    options = {"max_failure_rate": 0.5, "shard_size": 5, **options}
    backbones = ("efficientnet_lite0", *more) if more else ()
    return extract_each(
        Config.of(inputs=(str(images),), output=str(output), backbones=backbones, **options)
    )


@pytest.fixture(scope="module")
def base(images: Path, tmp_path_factory) -> Path:
    """Return the output of one run with both backbones."""
    output = tmp_path_factory.mktemp("base") / "out"
    both = night(images, output, SMALL)
    assert [(each.table, each.state, each.embedded, each.reused, each.failed) for each in both] == [
        ("", "published", 8, 1, 1),
        ("MobileNetV3Small", "published", 8, 1, 1),
    ]
    return output


@pytest.fixture
def own(images: Path, base: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copy the images and the output; the copies of the images keep their names for the table."""
    # The tables hold absolute paths, so the images are changed in their place and restored.
    kept = tmp_path / "kept"
    shutil.copytree(images, kept, copy_function=shutil.copy2)
    yield images, Path(shutil.copytree(base, tmp_path / "out"))
    shutil.rmtree(images)
    shutil.copytree(kept, images, copy_function=shutil.copy2)


@pytest.fixture
def seen(monkeypatch):
    """Count the decodings, and the images that went through each network, by vector length."""
    counts = Counter()
    decode, embed = transforms.decode.pool.decode, transforms.work.embed

    def count_decoded(data, policy, size):
        counts["decoded"] += 1
        return decode(data, policy, size)

    def count_embedded(engine, pixels):
        counts[engine.model.dimension] += len(pixels)
        return embed(engine, pixels)

    monkeypatch.setattr(transforms.decode.pool, "decode", count_decoded)
    monkeypatch.setattr(transforms.work, "embed", count_embedded)
    return counts


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


def test_each_table_keeps_to_its_recipe(own, capsys):
    images, output = own
    words = ["extract", "--input", str(images), "--output", str(output)]
    other = ["--backbone", "efficientnet_lite0", "--backbone", f"{SMALL},normalize=l2"]
    assert main([*words, *other]) == 1
    said = capsys.readouterr().err
    assert "the table features-MobileNetV3Small" in said
    assert "normalize: none → l2" in said


def killed(*words: str) -> int:
    """Run the command in a process that kills itself at the first point of a name."""
    command = [sys.executable, "-m", "tests.helpers.killed", *words]
    return subprocess.run(command, capture_output=True, timeout=120).returncode


@pytest.mark.parametrize(
    ("where", "published"),
    [
        (f"after commit {SMALL_TABLE}", [SMALL_TABLE]),
        ("before commit features", [SMALL_TABLE]),
        ("after commit errors", [SMALL_TABLE]),
        (f"before commit {SMALL_TABLE}", []),
        ("/MobileNetV3Small/receipts/", []),
    ],
)
def test_a_run_that_was_killed_between_its_commits_is_resumed(
    images, base, tmp_path, where, published, seen
):
    output = tmp_path / "out"
    words = ["extract", "--input", str(images), "--output", str(output), "--shard-size", "5"]
    words += ["--max-failure-rate", "0.5", "--backbone", "efficientnet_lite0", "--backbone", SMALL]
    # The names of the first pair are in those of the other, whose commits come before.
    count = "1" if "MobileNet" in where else "2"
    assert killed(where, count, *words) == -9
    for table in ("features", SMALL_TABLE):
        assert DeltaTable.is_deltatable(str(output / table)) == (table in published)
    both = night(images, output, SMALL)
    assert {each.state for each in both} == {"published"}
    if published:
        # All was computed before the first commit.
        assert not seen
    for table in ("features", SMALL_TABLE):
        assert read(output, table).equals(read(base, table))
        assert DeltaTable(output / table).version() == 0
    assert len(load_runs(open_storage(str(output)), 9)) == 1
    assert {each.state for each in night(images, output, SMALL)} == {"unchanged"}


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


@pytest.mark.parametrize(
    ("size", "table"), [(224, "features: "), (64, "features-MobileNetV3Small: ")]
)
def test_too_many_failures_of_one_network_publish_nothing(
    images, tmp_path, monkeypatch, size, table
):
    """No table is published without the others, and the next start begins anew."""
    real = transforms.work.embed

    def broken(engine, pixels):
        outputs, failures = real(engine, pixels)
        if engine.model.input_size == (size, size):
            error = ImageError("embed", FailureKind.NON_FINITE, "not finite")
            failures = dict.fromkeys(range(len(pixels)), error)
        return outputs, failures

    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(transforms.work, "embed", broken)
        with pytest.raises(Refused, match=f"^{table}10 of 10 images failed"):
            night(images, output, SMALL)
    assert not (output / "features/_delta_log").exists()
    assert not (output / SMALL_TABLE / "_delta_log").exists()
    storage = open_storage(str(output))
    states = [load_runs(storage, 1, table)[0].state for table in ("", "MobileNetV3Small")]
    assert states == ["refused", "refused"]
    assert {each.state for each in night(images, output, SMALL)} == {"published"}


def test_a_first_run_with_nothing_to_do_ends_last(images, tmp_path, seen):
    output = tmp_path / "out"
    night(images, output)
    words = ["extract", "--input", str(images), "--output", str(output), "--shard-size", "5"]
    words += ["--max-failure-rate", "0.5", "--backbone", "efficientnet_lite0", "--backbone", SMALL]
    assert killed(f"before commit {SMALL_TABLE}", "1", *words) == -9
    seen.clear()
    first, second = night(images, output, SMALL)
    assert (first.state, second.state) == ("unchanged", "published")
    assert not seen


def test_each_command_works_on_the_named_table(own, capsys, photos):
    images, output = own
    make_folder(images / "more", photos, "cell")
    night(images, output, SMALL)
    for command in ("verify", "show", "history", "repair", "compact"):
        assert main([command, str(output), "--table", "MobileNetV3Small"]) == 0
    said = capsys.readouterr().out
    assert f"clean: version 1 of {output}/{SMALL_TABLE}, 10 rows" in said
    assert f"{SMALL_TABLE}  10 rows" in said
    assert f"small parts of {SMALL_TABLE} into 1" in said
    assert main(["show", str(output)]) == 0
    assert "further tables (--table): MobileNetV3Small" in capsys.readouterr().out
    assert main(["rollback", str(output), "0", "--table", "MobileNetV3Small"]) == 0
    assert len(stems(output, SMALL_TABLE)) == 9
    assert len(stems(output, "features")) == 10
    assert DeltaTable(output / "features").version() == 1
    assert main(["verify", str(output), "--table", "ResNet50"]) == 2
    assert "there are: MobileNetV3Small" in capsys.readouterr().err
    first, second = night(images, output, SMALL)
    assert (first.state, second.new) == ("unchanged", 1)


def test_a_damaged_part_of_either_table_is_repaired(own):
    images, output = own
    part = next((output / SMALL_TABLE).glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    [done] = repair(str(output), table="MobileNetV3Small")
    assert done.table == SMALL_TABLE
    first, second = night(images, output, SMALL)
    assert (first.state, second.state) == ("unchanged", "published")
    # Damage that the run itself meets.
    part = next((output / SMALL_TABLE).glob("part-*.parquet"))
    for part in (output / SMALL_TABLE).glob("part-*.parquet"):
        part.write_bytes(b"")
    assert night(images, output, SMALL)[1].state == "published"
    assert verify(str(output), table="MobileNetV3Small").clean


def test_vacuum_keeps_what_any_table_needs(own, photos):
    images, output = own
    make_folder(images / "more", photos, "cell")
    night(images, output)
    night(images, output, SMALL)
    freed = vacuum(str(output), timedelta(days=14), now=later())
    # The first table has one run more: nothing that the other one needs is in it.
    assert {garbage.kind for garbage in freed.garbage} <= {"run"}
    assert not freed.left_alone
    assert len(list((output / "models").iterdir())) == 2
    for table in ("", "MobileNetV3Small"):
        assert verify(str(output), sample=2, table=table).clean
    (images / "coffee.jpg").unlink()
    night(images, output, SMALL)
    freed = vacuum(str(output), timedelta(days=14), now=later())
    gone = {garbage.key.split("/")[0] for garbage in freed.garbage if garbage.kind == "part"}
    assert gone == {"features", SMALL_TABLE}
    assert verify(str(output), sample=2, table="MobileNetV3Small").clean


def test_three_steps_status_and_metrics(images, base, tmp_path, capsys):
    output, metrics = tmp_path / "out", tmp_path / "m.jsonl"
    prometheus = tmp_path / "m.prom"
    words = ["--input", str(images), "--output", str(output), "--max-failure-rate", "0.5"]
    words += ["--backbone", "efficientnet_lite0", "--backbone", SMALL, "--shard-size", "5"]
    files = ["--metrics-json", str(metrics), "--metrics-prometheus", str(prometheus)]
    assert main(["extract", *words, "--dry-run"]) == 0
    assert not output.exists()
    assert main(["plan", *words]) == 0
    capsys.readouterr()
    assert main(["status", str(output)]) == 0
    said = capsys.readouterr().out
    assert said.count("0 / 2 shards") == 2
    assert f"{SMALL_TABLE}: run" in said
    assert main(["publish", str(output)]) == 1
    assert main(["extract", "--planned", *words]) == 0
    assert main(["publish", str(output), *files]) == 0
    said = capsys.readouterr().out
    assert f"published version 0 of {output}/{SMALL_TABLE}" in said
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [(line["table"], line["state"], line["embedded"]) for line in lines] == [
        ("features", "published", 8),
        (SMALL_TABLE, "published", 8),
    ]
    assert f'table="{SMALL_TABLE}"' in prometheus.read_text()
    for table in ("features", SMALL_TABLE):
        assert read(output, table).equals(read(base, table))


def test_rebuild_replaces_all_tables(own):
    images, output = own
    both = night(images, output, SMALL, rebuild=True)
    assert [(each.state, each.new, each.version) for each in both] == [("published", 10, 1)] * 2
    assert [DeltaTable(output / table).version() for table in ("features", SMALL_TABLE)] == [1, 1]


def test_removed_images_are_refused_for_all_tables(own):
    images, output = own
    for name in ("coffee", "rocket", "camera"):
        (images / f"{name}.jpg").unlink()
    with pytest.raises(Exception, match="are not listed any more"):
        night(images, output, SMALL)
    storage = open_storage(str(output))
    assert [load_runs(storage, 1, table)[0].state for table in ("", "MobileNetV3Small")] == [
        "refused",
        "refused",
    ]
    both = night(images, output, SMALL, keep_removed=True)
    assert [each.kept for each in both] == [3, 3]


def test_a_run_with_other_backbones_supersedes_an_unfinished_one(images, tmp_path):
    output = tmp_path / "out"
    words = ["extract", "--input", str(images), "--output", str(output)]
    words += ["--max-failure-rate", "0.5", "--backbone", "efficientnet_lite0", "--backbone", SMALL]
    assert killed("before commit", "1", *words) == -9
    [alone] = night(images, output)
    assert alone.state == "published"
    storage = open_storage(str(output))
    states = [run.state for run in load_runs(storage, 9)]
    assert states == ["published", "superseded"]
    assert load_runs(storage, 1, "MobileNetV3Small")[0].state == "superseded"
    assert [each.state for each in night(images, output, SMALL)] == ["unchanged", "published"]


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


@pytest.mark.parametrize("place", ["", "/out"])
def test_a_bucket_holds_several_tables(images, base, s3, place):
    output = f"{s3.url}{place}"
    both = night(images, output, SMALL)
    assert [each.state for each in both] == ["published", "published"]
    assert {each.state for each in night(images, output, SMALL)} == {"unchanged"}
    names = pair_names(open_storage(output))
    assert names == ["", "MobileNetV3Small"]
    for table in names:
        assert verify(output, table=table).clean
    freed = vacuum(output, timedelta(days=14), now=later())
    assert {garbage.kind for garbage in freed.garbage} <= {"run"}
    rows = Tables.published(open_storage(output), "MobileNetV3Small").features.read(["uri"])
    assert sorted(rows["uri"].to_pylist()) == read(base, SMALL_TABLE)["uri"].to_pylist()


def test_a_rollback_ends_an_unfinished_run_of_all_backbones(own, photos):
    images, output = own
    make_folder(images / "more", photos, "cell")
    night(images, output, SMALL)
    make_folder(images / "most", photos, "page")
    words = ["extract", "--input", str(images), "--output", str(output)]
    words += ["--max-failure-rate", "0.5", "--backbone", "efficientnet_lite0", "--backbone", SMALL]
    assert killed("before commit", "1", *words) == -9
    rollback(str(output), 0, table="MobileNetV3Small")
    storage = open_storage(str(output))
    for table in ("", "MobileNetV3Small"):
        assert load_runs(storage, 1, table)[0].state == "superseded"
    assert [each.new for each in night(images, output, SMALL)] == [1, 2]


@pytest.mark.parametrize(
    ("backbones", "message"),
    [
        (["ResNet50", "resnet50"], "another backbone has the tables 'ResNet50'"),
        (["ResNet50,normalise=l2"], "normalise is no option of a backbone"),
        (["ResNet50,top-k=few"], "top-k is a whole number"),
        (["ResNet50,table=plan"], "cannot be the name of a table"),
        (["ResNet50,table=../x"], "cannot be the name of a table"),
        (["ResNet50,normalize=l3"], "--normalize 'l3'"),
        ([",normalize=l2"], "the name of the backbone comes first"),
        (["ResNet5O"], "neither a known backbone nor a file"),
    ],
)
def test_mistakes_in_the_options_are_one_line(images, tmp_path, capsys, backbones, message):
    words = ["extract", "--input", str(images), "--output", str(tmp_path / "out")]
    given = [word for text in ["efficientnet_lite0", *backbones] for word in ("--backbone", text)]
    assert main([*words, *given]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_options_inside_are_of_one_backbone_alone():
    words = ["--input", "a", "--output", "b", "--normalize", "l2", "--top-k", "3"]
    words += ["--backbone", "ResNet50,top-k=1,resize=crop,normalize="]
    words += ["--backbone", "models/my net.v2.keras,preprocess=tf,input-size=64,table=mine"]
    words += ["--backbone", "mobilenet-v2"]
    first, own, last = config_of(parse(["extract", *words])).targets
    got = [
        (each.table, each.network.normalize, each.network.top_k, each.resize)
        for each in (first, own, last)
    ]
    assert got == [
        ("", "none", 1, "crop"), ("mine", "l2", 3, "squash"), ("MobileNetV2", "l2", 3, "squash"),
    ]  # fmt: skip
    assert (own.network.backbone, own.network.input_size) == ("models/my net.v2.keras", 64)
    assert (first.network.preprocess, own.network.preprocess) == (None, "tf")


def test_the_first_backbone_takes_no_name_for_its_tables(images, tmp_path, capsys):
    words = ["extract", "--input", str(images), "--output", str(tmp_path / "out")]
    assert main([*words, "--backbone", "ResNet50,table=first"]) == 2
    assert "the first backbone has the tables features and errors" in capsys.readouterr().err


def test_a_run_with_one_backbone_notes_nothing_of_others(images, tmp_path):
    output = tmp_path / "out"
    night(images, output)
    [note] = [json.loads(path.read_text()) for path in output.glob("runs/*/run.json")]
    assert not {"table", "others"} & set(note)
    assert "table" not in note["plan"]
    assert "table" not in note["summary"]
    [plan, _] = sorted(output.glob("runs/*/plan/*.parquet"))
    assert "targets" not in pq.read_schema(plan).names
    folders = {path.name for path in output.iterdir() if any(path.iterdir())}
    assert folders == {"errors", "features", "models", "runs"}
