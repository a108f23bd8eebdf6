"""``backbones --inspect`` lists layers that ``--feature-layer`` takes, outputs and options."""

from pathlib import Path

import onnx
import pytest

from pipeline.cli import main
from tests.helpers.hub_nets import save_preset
from tests.helpers.nets import net
from tests.helpers.onnx_nets import save, small_net
from transforms.backbones import BackboneConfig, resolve


def test_an_onnx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(small_net(), tmp_path / "net.onnx")
    assert main(["backbones", "--inspect", path]) == 0
    table, _, rest = capsys.readouterr().out.partition("\n\n")
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["conv", "Convolution", "[N,", "6,", "11,", "11]", "6"],
        ["relu", "Relu", "[N,", "6,", "11,", "11]", "6"],
        ["map", "Convolution", "[N,", "8,", "9,", "9]", "8"],
        ["pooled", "ReduceMean", "[N,", "8,", "1,", "1]", "8"],
        ["flat", "Reshape", "[N,", "8]", "8"],
        ["dense", "MatMul", "[N,", "5]", "5"],
        ["hidden", "Tanh", "[N,", "5]", "5"],
        ["logits", "MatMul", "[N,", "3]", "3"],
        ["answer", "Softmax", "[N,", "3]", "3"],
    ]
    assert rest.splitlines() == [
        "takes photo [N, 3, 24, 24] f32, as nchw",
        "gives answer [N, 3] f32: shares of classes that exclude each other (softmax)",
        "vector without --feature-layer: input of answer",
        "option --preprocess MODE, or --mean R,G,B --std R,G,B, as the model was trained",
        "option --labels FILE, with 3 lines",
    ]
    # Each name that is listed can be the vector.
    for line in table.splitlines()[1:]:
        name, numbers = line.split()[0], int(line.split()[-1])
        config = BackboneConfig(backbone=path, preprocess="unit", feature_layer=name)
        assert resolve(config).dimension == numbers


def test_an_onnx_file_whose_vector_has_to_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_net(last=None, outputs=("logits", "hidden"))
    model.graph.output.append(onnx.ValueInfoProto(name="flat"))
    hostile = save(model, tmp_path / "net\x1b.onnx")
    assert main(["backbones", "--inspect", hostile]) == 0
    text = capsys.readouterr().out
    assert (
        "gives logits [N, 3] f32: a dense layer's numbers: logits of classes, or a vector" in text
    )
    assert "gives hidden [N, 5] f32: the numbers of Tanh" in text
    assert "vector without --feature-layer: none; name a layer" in text
    assert "has several outputs; name the vector by --feature-layer" in text
    assert "\x1b" not in text


def test_a_keras_file_and_its_saved_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = net(scaling=True, activation=None)
    model.save(tmp_path / "own.keras")
    model.export(tmp_path / "saved", verbose=False)
    assert main(["backbones", "--inspect", str(tmp_path / "own.keras")]) == 0
    text = capsys.readouterr().out
    rows = [line.split(maxsplit=2) for line in text.splitlines()]
    assert ["conv_again", "Conv2D", "[N, 10, 10, 8]  8"] in rows
    assert ["hidden", "Dense", "[N, 5]          5"] in rows
    assert "takes pixels [N, 24, 24, 3]\n" in text
    assert "gives [N, 3]: a dense layer's numbers: logits of classes, or a vector" in text
    assert "vector without --feature-layer: input of answer" in text
    assert "option --preprocess none, since its own layer scaling scales" in text
    assert "option --labels FILE, with 3 lines" in text
    assert main(["backbones", "--inspect", str(tmp_path / "saved")]) == 0
    text = capsys.readouterr().out
    listed = [line.split()[0] for line in text.splitlines() if line.endswith(" 5")]
    config = BackboneConfig(
        backbone=str(tmp_path / "saved"), preprocess="none", feature_layer=listed[-1]
    )
    assert resolve(config).dimension == 5
    assert "option --labels FILE, with 3 lines" in text


def test_a_preset_of_keras_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for antialias, options in ((True, []), (False, ["--resize crop-bicubic"])):
        folder = tmp_path / str(antialias)
        save_preset("ResNet", folder, antialias=antialias)
        assert main(["backbones", "--inspect", str(folder)]) == 0
        lines = capsys.readouterr().out.splitlines()
        found = [line.removeprefix("option ") for line in lines if line.startswith("option ")]
        assert found == [f"--backbone hub:{folder}", *options]


def test_a_backbone_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "--inspect", "efficientnet_lite0"]) == 0
    text = capsys.readouterr().out
    assert "head_relu6" in text
    assert "in its value range lite\n" in text
    assert main(["backbones", "--inspect", "nothing.onnx"]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err
