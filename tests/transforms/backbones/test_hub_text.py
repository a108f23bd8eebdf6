"""Words get the vector that KerasHub's own tower for texts gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli import main
from tests.helpers.hub_nets import TOWERS, save_preset, save_tokenizer
from tests.helpers.runs import make_folder, read_features, vectors
from transforms.backbones import BackboneConfig, export, resolve
from transforms.backbones.hub_text import text_vectors, vector_of_words
from transforms.engines import EngineConfig, load_engine
from transforms.errors import UserError

WORDS = "A cat"


def truth(family: str, backbone: Any, tokenizer: Any) -> np.ndarray:
    """Return the vector of WORDS, with tokens that are put together by hand."""
    tokens = [int(number) for number in np.asarray(tokenizer(WORDS.lower()))]
    if family == "SigLIP":
        row, length = [*tokens, tokenizer.end_token_id], 64
    else:
        row, length = [tokenizer.start_token_id, *tokens, tokenizer.end_token_id], 77
    padded = [*row, *[tokenizer.pad_token_id] * (length - len(row))]
    return backbone.get_text_embeddings(np.array([padded], np.int32)).numpy()[0]


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name == "CLIP" else pytest.mark.slow)
               for name in TOWERS],
)  # fmt: skip
def test_the_vector_of_words_is_that_of_keras_hub(family: str, tmp_path: Path) -> None:
    backbone, _ = save_preset(family, tmp_path)
    tokenizer = save_tokenizer(family, tmp_path)
    recipe = resolve(BackboneConfig(backbone=f"hub:{tmp_path}")).recipe_fields
    words = WORDS.lower() if family == "MetaCLIP2" else WORDS
    vector = vector_of_words(words, f"hub:{tmp_path}", recipe)
    assert np.abs(vector - truth(family, backbone, tokenizer)).max() < 1e-5
    other = vector_of_words("a dog", f"hub:{tmp_path}", recipe)
    assert np.abs(vector - other).max() > 1e-4


def test_images_are_searched_with_words(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "tiny_clip"
    backbone, _ = save_preset("CLIP", preset)
    folder = make_folder(tmp_path / "photos", photos, "chelsea coffee rocket")
    output = str(tmp_path / "out")
    words = ["extract", "--input", str(folder), "--output", output]
    assert main([*words, "--backbone", f"hub:{preset}"]) == 0
    search = ["search", output, "--text", WORDS, "--json"]
    assert main(search) == 2
    assert "say by --backbone hub:FOLDER where it is" in capsys.readouterr().err
    assert main([*search, "--backbone", f"hub:{preset}"]) == 2
    assert "a preset needs the tokenizer that belongs to it" in capsys.readouterr().err
    tokenizer = save_tokenizer("CLIP", preset)
    assert main([*search, "--backbone", f"hub:{preset}"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    table = read_features(output)
    vector, rows = truth("CLIP", backbone, tokenizer), vectors(table)
    cosines = rows @ vector / np.linalg.norm(rows, axis=1) / np.linalg.norm(vector)
    best = np.argsort(-cosines)
    assert [row["uri"] for row in found] == [table["uri"][int(place)].as_py() for place in best]
    assert np.allclose([row["score"] for row in found], cosines[best], atol=1e-5)
    other = tmp_path / "other"
    save_preset("CLIP", other, scale=0.5)
    assert main([*search, "--backbone", f"hub:{other}"]) == 2
    assert "is not the preset that made the vectors" in capsys.readouterr().err


def test_a_folder_that_is_no_preset_is_named(tmp_path: Path) -> None:
    recipe = {"weights_sha256": "0", "backbone": "tiny"}
    with pytest.raises(UserError, match="is not the preset that made the vectors of the table"):
        vector_of_words(WORDS, f"hub:{tmp_path}", recipe)


CLASSES = ("cat", "dog", "cab")


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name == "CLIP" else pytest.mark.slow)
               for name in TOWERS],
)  # fmt: skip
def test_classes_get_the_scores_of_keras_hub(family: str, tmp_path: Path, photos: Path) -> None:
    """Compare with the preset's own logits, of the pixels of the golden batch."""
    preset = tmp_path / "tiny"
    backbone, _ = save_preset(family, preset)
    save_tokenizer(family, preset)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    network = resolve(
        BackboneConfig(
            f"hub:{preset}", classes=str(tmp_path / "classes.txt"), prompt="a {}", top_k=2
        )
    )
    export(network, tmp_path / "export")
    texts, scale, bias = text_vectors(preset, [f"a {name}" for name in CLASSES])
    with np.load(tmp_path / "export/golden.npz") as golden:
        images = load_engine(EngineConfig(str(tmp_path / "export"))).run(golden["images"])
    a = images.features / np.linalg.norm(images.features, axis=1, keepdims=True)
    b = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    logits = scale * a @ b.T + (bias or 0)
    powers = np.exp(logits)
    scores = 1 / (1 + 1 / powers) if bias is not None else powers / powers.sum(1, keepdims=True)
    assert (bias is not None) == (family == "SigLIP")
    best = np.argsort(-scores, axis=1)[:, :2]
    np.testing.assert_allclose(images.scores, np.take_along_axis(scores, best, 1), atol=1e-5)
    assert (images.indices == best).all()
    head = getattr(backbone, {"MetaCLIP2": "metaclip_2_head"}.get(family, f"{family.lower()}_head"))
    own = np.asarray(head(images.features, texts)[0])
    np.testing.assert_allclose(logits, own, atol=1e-4)


def test_classes_label_a_run_and_what_is_published(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "tiny_clip"
    save_preset("CLIP", preset)
    save_tokenizer("CLIP", preset)
    folder = make_folder(tmp_path / "photos", photos, "chelsea coffee rocket")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    words = ["extract", "--input", str(folder), "--output", str(tmp_path / "out")]
    words += ["--backbone", f"hub:{preset}"]
    assert main(words) == 0
    before = read_features(tmp_path / "out")
    assert main([*words, "--classes", str(tmp_path / "classes.txt")]) == 0
    assert "published new labels of 3 rows" in capsys.readouterr().out
    rows = read_features(tmp_path / "out")
    assert vectors(rows).tobytes() == vectors(before).tobytes()
    assert {len(labels) for labels in rows["labels"].to_pylist()} == {2}
    # Other words are other labels.
    assert main([*words, "--classes", str(tmp_path / "classes.txt"), "--prompt", "the {}"]) == 0
    assert "published new labels of 3 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ("cat\n", [], "must name at least 2 classes"),
        ("cat\ncat\n", [], "each once"),
        ("cat\n\ndog\n", [], "line 2 is empty"),
        ("cat\ndog\n", ["--prompt", "a photo"], "must have {} once"),
        ("cat\ndog\n", ["--labels", "x.txt"], "--labels x.txt: with --classes"),
        ("cat\ndog\n", ["--backbone", "efficientnet_lite0"], "has no tower for texts"),
    ],
)
def test_a_mistake_in_the_classes_is_one_line(
    lines: str, options: list[str], message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "classes.txt").write_text(lines)
    save_preset("CLIP", tmp_path / "clip")
    words = ["extract", "--input", str(tmp_path), "--output", str(tmp_path / "out")]
    if "--backbone" not in options:
        words += ["--backbone", f"hub:{tmp_path / 'clip'}"]
    assert main([*words, "--classes", str(tmp_path / "classes.txt"), *options]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
