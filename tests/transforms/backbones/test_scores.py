"""What is taken of a custom model's outputs: by its graph, by its values, or as --scores says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.nets import LABELS, exported, net
from transforms.backbones import BackboneConfig, export, model_id, resolve
from transforms.backbones.network import import_keras, run
from transforms.errors import UserError


def _model(head: Any, classes: int = 3) -> Any:
    keras = import_keras()
    body = net()
    logits = keras.layers.Dense(classes)(body.get_layer("hidden").output)
    return keras.Model(body.inputs, head(keras, logits))


def _nested(keras: Any, logits: Any) -> Any:
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Activation("sigmoid")(inputs), name="head")(logits)


SIGMOIDS = {
    "ops": lambda keras, logits: keras.ops.sigmoid(logits),
    "reshaped": lambda keras, logits: keras.layers.Reshape((3,))(
        keras.layers.Activation("sigmoid")(logits)
    ),
    "nested": _nested,
    "joined": lambda keras, logits: keras.layers.Concatenate()(
        [keras.ops.sigmoid(logits[:, :1]), keras.ops.sigmoid(logits[:, 1:])]
    ),
}


def _options(tmp_path: Path, model: Any, **more: Any) -> dict[str, Any]:
    model.save(tmp_path / "own.keras")
    (tmp_path / "labels.txt").write_text(
        "\n".join(LABELS[: model.output_shape[1]]), encoding="utf-8"
    )
    own, labels = str(tmp_path / "own.keras"), str(tmp_path / "labels.txt")
    return {"backbone": own, "preprocess": "unit", "labels": labels} | more


@pytest.mark.parametrize("head", SIGMOIDS)
def test_sigmoids_stay_wherever_they_are(head: str, images: np.ndarray, tmp_path: Path) -> None:
    model = _model(SIGMOIDS[head])
    _, graph = exported(tmp_path / "out", **_options(tmp_path, model))
    answer = run(model, images / np.float32(255))
    np.testing.assert_allclose(graph(images)[1], np.sort(answer)[:, ::-1], atol=1e-5)


def test_one_logit_is_refused_unless_it_is_said(images: np.ndarray, tmp_path: Path) -> None:
    model = _model(lambda _, logits: logits, classes=1)
    options = _options(tmp_path, model)
    with pytest.raises(
        UserError,
        match=r"own.keras: its outputs are numbers one an image.* by --scores: "
        r"softmax .* sigmoid .* none",
    ):
        export(resolve(BackboneConfig(**options)), tmp_path / "out")
    _, graph = exported(tmp_path / "out", **options, scores="sigmoid")
    answer = run(model, images / np.float32(255))
    np.testing.assert_allclose(graph(images)[1], 1 / (1 + np.exp(-answer)), atol=1e-5)


def test_numbers_like_probabilities_of_unknown_make_are_refused(tmp_path: Path) -> None:
    model = _model(lambda keras, logits: keras.ops.square(keras.ops.sigmoid(logits)))
    options = _options(tmp_path, model)
    with pytest.raises(
        UserError, match=r"from 0 to 1 that do not sum to 1, made by Square.*--scores"
    ):
        export(resolve(BackboneConfig(**options)), tmp_path / "out")
    export(resolve(BackboneConfig(**options, top_k=0)), tmp_path / "out")  # vectors need no scores


def test_only_an_option_that_was_given_is_part_of_the_recipe(tmp_path: Path) -> None:
    options = _options(tmp_path, net())
    found, said = (
        resolve(BackboneConfig(**options)),
        resolve(BackboneConfig(**options, scores="none")),
    )
    assert "scores" not in found.recipe_fields
    assert said.recipe_fields == {**found.recipe_fields, "scores": "none"}
    assert model_id(found) != model_id(said)
    with pytest.raises(UserError, match="--scores 'half': must be softmax or sigmoid or none"):
        resolve(BackboneConfig(**options, scores="half"))
    with pytest.raises(
        UserError, match="gives probabilities; the option is for models of your own"
    ):
        resolve(BackboneConfig(scores="none"))
