"""What is in a model of the user's: its input, its outputs, and the layers that can be the vector.

``image-features backbones --inspect MODEL`` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that ``--feature-layer`` can name."""

    name: str
    kind: str
    shape: str  # such as [N, 7, 7, 1280]
    numbers: int  # in its vector


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a model's file."""

    takes: str
    # Each output, with what it looks like.
    gives: tuple[str, ...]
    # In the order of computing.
    layers: tuple[Layer, ...]
    # What is the vector without --feature-layer; None where it has to be named.
    vector: str | None
    # Options to use, without the backbone itself.
    options: tuple[str, ...]


def how_to_list(backbone: object) -> str:
    """Return the command that lists the layers of a backbone."""
    return f"image-features backbones --inspect {backbone}"


def looks_like(last: set[str], named: bool = False) -> str:
    """Say what an output is, by the types of the operations that end it.

    Args:
        last: Such as ``scores.last_operations`` returns.
        named: Whether its name says that it is a vector.
    """
    if named:
        return "a vector, by its name"
    if last <= {"Softmax", "LogSoftmax"}:
        return "shares of classes that exclude each other (softmax)"
    if last == {"Sigmoid"}:
        return "independent shares (sigmoid)"
    if last <= {"MatMul", "BiasAdd", "Add", "AddV2"}:
        return "a dense layer's numbers: logits of classes, or a vector"
    return f"the numbers of {', '.join(sorted(last))}"
