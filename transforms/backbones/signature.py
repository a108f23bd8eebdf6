"""Load a SavedModel and freeze its serving signature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transforms.backbones.safety import check_file, check_random, check_signature
from transforms.choices import BackboneConfig
from transforms.errors import UserError, first_line


@dataclass(frozen=True, slots=True)
class Frozen:
    """A serving signature with its variables made constants."""

    graph: Any  # GraphDef
    input: str  # tensor names
    output: str | None  # the one output [N, classes]
    all_outputs: tuple[str, ...]
    dtype: Any
    shape: tuple[int | None, ...]
    outputs: str
    # Calls the loaded signature: pixels → the output [N, classes].
    predict: Any


def freeze(path: Path, config: BackboneConfig) -> Frozen:
    """Load a SavedModel, check its operations, and freeze its serving signature.

    Args:
        path: The SavedModel's folder.
        config: Says whether code is allowed.

    Raises:
        UserError: The folder cannot be loaded, has no signature for images, or carries code.
    """
    import tensorflow as tf

    if not config.allow_code:
        check_file(path)
    loaded, signature, graph = _load(path)
    check_random(path, graph)
    if not config.allow_code:
        check_signature(path, graph)
    name, spec = next(iter(signature.structured_input_signature[1].items()))
    key, output = _output(signature)

    def predict(pixels: Any) -> Any:
        # The variables live as long as the loaded model does.
        _keep = loaded
        return signature(**{name: tf.cast(pixels, spec.dtype)})[key].numpy()

    return Frozen(
        graph=graph,
        input=signature.inputs[0].name,
        output=output,
        all_outputs=tuple(output.name for output in signature.outputs),
        dtype=spec.dtype,
        shape=tuple(spec.shape),
        outputs=", ".join(str(list(o.shape)) for o in signature.structured_outputs.values()),
        predict=predict,
    )


def _load(path: Path) -> tuple[Any, Any, Any]:
    """Return the loaded model, its serving signature, and the signature's frozen GraphDef."""
    import tensorflow as tf

    from transforms.backbones.frozen import cut, frozen_graph, tell_of_functions, without_effects

    try:
        loaded = tf.saved_model.load(str(path))
        signature = _signature(loaded, path)
        needed = [output.name for output in signature.outputs] + [signature.inputs[0].name]
        graph = cut(without_effects(frozen_graph(signature)), needed)
        tell_of_functions(graph)
    except UserError:
        raise
    # TensorFlow raises many kinds.
    except Exception as error:
        index = "variables/variables.index"
        seen = first_line(error) if (path / index).exists() else f"{index} is missing"
        raise UserError(
            f"--backbone {path}: TensorFlow cannot load it ({seen}); copy the whole folder or save "
            "it again"
        ) from error
    return loaded, signature, graph


def _signature(loaded: Any, path: Path) -> Any:
    signatures = dict(loaded.signatures)
    chosen = signatures.get("serving_default") or (
        next(iter(signatures.values())) if len(signatures) == 1 else None
    )
    if chosen is None:
        raise UserError(
            f"--backbone {path}: has no signature serving_default, but "
            f"{sorted(signatures) or 'none at all'}; save it with signatures=, or with Keras' "
            "model.export()"
        )
    inputs = list(chosen.structured_input_signature[1].values())
    shapes = [(spec.dtype.name, tuple(spec.shape)) for spec in inputs]
    images = len(inputs) == 1 and inputs[0].shape.rank == 4 and inputs[0].shape[-1] == 3
    if not images or inputs[0].dtype.name == "string":
        raise UserError(f"--backbone {path}: takes {shapes}; it must take one image [N, H, W, 3]")
    return chosen


def _output(signature: Any) -> tuple[str | None, str | None]:
    """Return key and tensor of the one output [N, classes]; None for none or several."""
    # The order in which a signature's outputs are flattened.
    keys = sorted(signature.structured_outputs)
    if len(keys) != 1 or signature.structured_outputs[keys[0]].shape.rank != 2:
        return None, None
    return keys[0], signature.outputs[0].name
