"""The options of several backbones."""

import json

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.commands.options import config_of
from pipeline.commands.parser import parse
from tests.helpers.several import SMALL, night


def test_each_table_keeps_to_its_recipe(own, capsys):
    images, output = own
    words = ["extract", "--input", str(images), "--output", str(output)]
    other = ["--backbone", "efficientnet_lite0", "--backbone", f"{SMALL},normalize=l2"]
    assert main([*words, *other]) == 1
    said = capsys.readouterr().err
    assert "the table features-MobileNetV3Small" in said
    assert "normalize: none → l2" in said


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
        ("", "none", 1, "crop"), ("mine", "l2", 3, None), ("MobileNetV2", "l2", 3, None),
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
