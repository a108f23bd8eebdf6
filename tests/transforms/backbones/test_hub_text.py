"""Words get the vector that KerasHub's own tower for texts gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli import main
from tests.helpers.hub_nets import TOWERS, save_preset, save_tokenizer
from tests.helpers.runs import make_folder, read_features, vectors
from transforms.backbones import BackboneConfig, resolve
from transforms.backbones.hub_text import vector_of_words
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
