"""The interface of an engine: a loaded network that turns pixels into vectors and top-k labels."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

# Of one image [H, W, 3], or of several [N, H, W, 3]; RGB, 0-255
Pixels = npt.NDArray[np.uint8]
Images = Pixels | Sequence[Pixels]
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Batch sizes of a network as StableHLO, whose shapes are fixed.
STABLEHLO_BATCHES = (8, 32, 64, 128, 256)
_DEVICES = Path("/dev")
_PCI = Path("/sys/bus/pci/devices")
# The maker and the devices of TPUs v3 to 7x, on the PCI bus.
_GOOGLE = "0x1ae0"
_TPUS = {"0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"}


@dataclass(frozen=True, slots=True)
class Network:
    """The file that holds an exported network, and its format."""

    format: str
    file: str

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all its files.

        OpenVINO keeps the weights in a second one. StableHLO has one for each batch size, and the
        weights in the last one.
        """
        if self.format == "stablehlo":
            names = (f"network-{batch}.stablehlo" for batch in STABLEHLO_BATCHES)
            return (*names, "weights.npz")
        is_pair = self.format == "openvino" and self.file.endswith(".xml")
        return (self.file, f"{self.file.removesuffix('.xml')}.bin") if is_pair else (self.file,)


# OpenVINO's own format, for networks that come as ONNX files.
OPENVINO = Network("openvino", "network.xml")
# XLA's portable form, lowered from a frozen TensorFlow graph.
STABLEHLO = Network("stablehlo", "network.stablehlo")
# A frozen TensorFlow graph. Exports before the format was noted are all of this one.
GRAPHDEF = Network("graphdef", "graph.pb")


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A folder written by ``transforms.backbones.export``; read without Keras."""

    directory: Path
    input_size: tuple[int, int]  # height, width
    dimension: int
    top_k: int  # 0 for a backbone without labels
    labels: tuple[str, ...]
    network: Network = GRAPHDEF
    # What computed the golden vectors
    reference: str = "Keras"

    @property
    def path(self) -> Path:
        """The network: ``images`` uint8 [N, H, W, 3] → ``features``, ``scores``, ``indices``."""
        return self.directory / self.network.file


@dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs for N images; without labels, scores and indices have no columns."""

    features: npt.NDArray[np.float32]  # [N, D]
    scores: npt.NDArray[np.float32]  # [N, k], descending
    indices: npt.NDArray[np.int32]  # [N, k]


class Engine(Protocol):
    """A loaded network.

    Safe for threads: callers take turns, so that each batch has all the cores.
    """

    name: str  # for messages
    formats: tuple[str, ...]  # of networks that it reads
    model: ExportedModel
    # Images a step; may shrink when the device runs out of memory
    batch_size: int
    # Whether it computes on a GPU or TPU. Then the next images are decoded meanwhile; on a CPU that
    # would need the same cores.
    accelerated: bool

    def run(self, images: Images) -> Outputs:
        """Compute any number of images, in steps of ``batch_size``.

        Raises what the library raises.
        """
        ...


def read_exported(directory: Path) -> ExportedModel:
    """Read ``model.json`` of an exported backbone."""
    encoded = (directory / "model.json").read_bytes()
    facts = json.loads(encoded)
    height, width = facts["input_size"]
    return ExportedModel(
        directory=directory,
        input_size=(height, width),
        dimension=facts["dimension"],
        top_k=facts["top_k"],
        labels=tuple(facts["labels"] or ()),
        network=read_network(encoded),
        reference=facts.get("reference", "Keras"),
    )


def read_network(encoded: bytes) -> Network:
    """Return which network a ``model.json`` names.

    Raises:
        ValueError: It is damaged, or the network's file would lie outside the export's folder.
    """
    try:
        network = Network(**json.loads(encoded).get("network", asdict(GRAPHDEF)))
        named = bool(_FILE_NAME.fullmatch(network.file))
    except (AttributeError, TypeError) as error:
        raise ValueError("this is no model.json") from error
    if not named:
        raise ValueError(f"{network.file!r} is no name of a network's file")
    return network


def available_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Tell whether this machine has a GPU of NVIDIA's, asked without TensorFlow."""
    return any(_DEVICES.glob("nvidia[0-9]*"))


def has_tpu() -> bool:
    """Tell whether this machine has a TPU, asked without JAX.

    The numbers on the PCI bus are those of JAX 0.10, jax/_src/hardware_utils.py (Apache-2.0).
    """
    for folder in _PCI.glob("*"):
        try:
            maker, device = ((folder / name).read_text().strip() for name in ("vendor", "device"))
        except OSError:
            continue
        if maker == _GOOGLE and device in _TPUS:
            return True
    return False


def has_accelerator() -> bool:
    """Tell whether this machine has a GPU or a TPU that an engine may use."""
    return has_gpu() or has_tpu()


def as_batch(images: Images, batch_size: int) -> Pixels:
    """Stack images to [batch_size, H, W, 3]; repeat the last one to fill the last batch.

    A second shape would be compiled anew and may take other kernels, and then an image's vector
    would depend on how many neighbours it had.
    """
    if isinstance(images, np.ndarray) and len(images) == batch_size:
        return images
    return np.stack([*images, *[images[-1]] * (batch_size - len(images))])
