"""Resolve the user's choice: find every mistake here, and import TensorFlow only if needed."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from transforms.backbones.custom import is_path, resolve_custom
from transforms.backbones.head import HeadFacts, read_head
from transforms.backbones.labels import imagenet_labels, labels_sha256, read_labels
from transforms.backbones.network import ONE_SESSION
from transforms.backbones.spec import Backbone, Resolved, Weights
from transforms.backbones.table import find_backbone, is_backbone
from transforms.backbones.weights import IMAGENET_CLASSES, find_weights
from transforms.backbones.zero_shot import read_classes
from transforms.choices import BackboneConfig
from transforms.errors import UserError

_LOG = logging.getLogger(__name__)


def resolve(config: BackboneConfig) -> Resolved:
    """Check a choice and hash its weights.

    A backbone of the table is resolved without TensorFlow, unless its weights have to be downloaded
    or a layer was named by ``feature_layer``; a model of the user's is loaded. Raises
    ``UserError``. What the user should know (no labels, for one) is logged as a warning and kept in
    ``notes``.
    """
    with ONE_SESSION:
        if not is_backbone(config.backbone) and is_path(config.backbone):
            resolved = resolve_custom(config)
        else:
            resolved = _resolve_named(find_backbone(config.backbone), config)
        if config.head:
            resolved = _with_head(resolved, read_head(Path(config.head).expanduser()))
        if config.classes:
            resolved = _with_head(resolved, read_classes(resolved))
    for note in resolved.notes:
        _LOG.warning("%s", note)
    return resolved


def _resolve_named(spec: Backbone, config: BackboneConfig) -> Resolved:
    if config.value_range is not None:
        option = "--preprocess" if config.preprocess else "--mean and --std:"
        raise UserError(
            f"{option} {config.value_range}: {spec.name} has its own value range ({spec.mode}); "
            "the option is for models of your own"
        )
    if config.pooling == "cls":
        raise UserError(f"--pooling cls: {spec.name} gives maps, which have no tokens: avg or max")
    if config.scores is not None:
        raise UserError(
            f"--scores {config.scores}: {spec.name} gives probabilities; the option is for models "
            "of your own"
        )
    size = config.input_size or spec.size
    if size < spec.min_size:
        raise UserError(
            f"--input-size {size}: {spec.name} needs at least {spec.min_size} (its own is "
            f"{spec.size})"
        )
    given = read_labels(config.labels) if config.labels else None
    weights = find_weights(spec, config, size, len(given) if given else None)
    labels, labels_id, notes = _labels(spec, weights, given, config)
    resolved = Resolved(
        config=config,
        name=spec.name,
        backbone=spec,
        weights=weights,
        labels=labels,
        labels_id=labels_id,
        input_size=(size, size),
        preprocess=spec.mode,
        feature_layer=config.feature_layer or spec.feature,
        dimension=spec.dimension,
        notes=notes,
    )
    return _with_layer(resolved) if config.feature_layer else resolved


def _with_head(resolved: Resolved, head: HeadFacts) -> Resolved:
    # The notes are about labels of the network itself.
    return replace(
        resolved, head=head, labels=head.labels, labels_id=labels_sha256(head.labels), notes=()
    )


def _with_layer(resolved: Resolved) -> Resolved:
    from transforms.backbones.named import layer_dimension

    return replace(resolved, dimension=layer_dimension(resolved))


def _labels(
    spec: Backbone, weights: Weights, given: tuple[str, ...] | None, config: BackboneConfig
) -> tuple[tuple[str, ...] | None, str | None, tuple[str, ...]]:
    """Return the labels, their id, and notes for the user."""
    if not weights.classes:
        if given:
            raise UserError(
                f"--labels {config.labels}: {weights.word} has no top, so there is nothing to label"
            )
        return None, None, (f"{weights.word} has no top: there are vectors and no labels",)
    size = config.input_size or spec.size
    if spec.fixed_top and size != spec.size:
        note = (
            f"{spec.name} has labels at its own input size {spec.size} only: at {size} there are "
            "vectors alone"
        )
        return None, None, (note,)
    if given and len(given) != weights.classes:
        raise UserError(
            f"--labels {config.labels}: has {len(given)} labels, but the weights of {spec.name} "
            f"({weights.word}) have {weights.classes} classes"
        )
    if given:
        return given, labels_sha256(given), ()
    if weights.classes == IMAGENET_CLASSES:
        return imagenet_labels(), "imagenet", ()
    note = (
        f"{weights.word} has {weights.classes} classes: without --labels there are vectors and no "
        "labels"
    )
    return None, None, (note,)
