"""Get the exported network that an engine loads, from this user's cache or made now."""

from __future__ import annotations

from pathlib import Path

from transforms.backbones.export import export, model_id, model_id_of
from transforms.backbones.spec import Resolved
from transforms.backbones.stablehlo import lower, stablehlo_id
from transforms.engines.models import cached_model
from transforms.engines.tensorflow_engine import import_tensorflow
from transforms.recipe import Recipe


def exported(network: Resolved, lowered: bool, cores: int | None = None) -> dict[str, Path]:
    """Return the folders of the exports that a run needs, by their ids; export what is missing.

    Args:
        network: The choice that was checked.
        lowered: Whether the engine ``xla`` may run it.
        cores: For TensorFlow, whose threads are set only once a process; this process may be the
            worker too.

    Returns:
        The export that belongs to the recipe and, if ``lowered``, the one that ``xla`` loads, which
        is the last one.

    Raises:
        UserError: The weights do not fit the network, or TensorFlow is not installed.
        CannotLower: XLA lacks an operation of the network.
    """

    def fill(scratch: Path) -> None:
        if "tensorflow" in network.engines:
            import_tensorflow(cores)
        export(network, scratch)

    own = model_id(network)
    folders = {own: cached_model(own, fill)}
    if lowered:
        folder, second = folders[own], stablehlo_id(own)
        folders[second] = cached_model(second, lambda scratch: lower(folder, scratch))
    return folders


def network_ids(recipe: Recipe) -> tuple[str, str]:
    """Return the ids of all exports that may belong to a recipe: the graph, and it lowered."""
    own = model_id_of(recipe)
    return own, stablehlo_id(own)
