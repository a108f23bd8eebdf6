"""Choose the engine of this machine, by its devices and by what is installed."""

from __future__ import annotations

from importlib.util import find_spec

from transforms.choices import EngineName
from transforms.engines.base import OPENVINO, STABLEHLO, Network, has_gpu, has_tpu
from transforms.errors import UserError
from transforms.extras import install_command

# The only engine that reads a format.
_ONLY: dict[str, EngineName] = {OPENVINO.format: "openvino", STABLEHLO.format: "xla"}
# What an engine imports, and the extra that installs it.
_NEEDS = {"openvino": ("openvino", "cpu"), "tensorflow": ("tensorflow", ""), "xla": ("jax", "xla")}
# The start of the line that says that a machine lacks it.
NO_ACCELERATOR = "--require-accelerator"
# JAX' plugins for GPUs of NVIDIA's.
_CUDA = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def choose_engine(engine: EngineName, network: Network | None = None) -> EngineName:
    """Resolve ``auto``, and check that the engine is installed.

    ``auto`` takes XLA where there is a GPU or TPU for which JAX is installed. Otherwise it takes
    OpenVINO where it is installed and there is no GPU, and else TensorFlow.

    Args:
        engine: What was asked for.
        network: The exported network, whose format leaves less choice; None: any can be exported.

    Raises:
        UserError: The engine is not installed.
    """
    chosen = _best(network) if engine == "auto" else engine
    package, extra = _NEEDS[chosen]
    if find_spec(package) is None:
        what = install_command(extra) if extra else "pip install 'tensorflow'"
        raise UserError(f"--engine {engine}: {package} is not installed. {what}")
    return chosen


def _best(network: Network | None) -> EngineName:
    if network and network.format in _ONLY:
        return _ONLY[network.format]
    if network is None and has_jax_for_device():
        return "xla"
    has_openvino = find_spec("openvino") is not None
    wanted = not has_gpu() or find_spec("tensorflow") is None
    return "openvino" if has_openvino and wanted else "tensorflow"


def has_jax_for_device() -> bool:
    """Tell whether there is a GPU or TPU for which JAX is installed; asked without JAX.

    Without the plugin of the device, JAX would compute on the CPU.
    """
    if find_spec("jax") is None:
        return False
    for_gpu = any(find_spec(name) for name in _CUDA) and has_gpu()
    return for_gpu or (find_spec("libtpu") is not None and has_tpu())


def no_accelerator(engine: str = "") -> str:
    """Return the line that says that ``--require-accelerator`` is not met.

    Args:
        engine: The one that computes on the CPU all the same; "" where there is no device.
    """
    if not engine:
        return (
            f"{NO_ACCELERATOR}: no GPU (/dev/nvidia0) and no TPU (on the PCI bus) is seen on this "
            "machine. Use one that has it, or leave the option out to compute on the CPU"
        )
    extras = {"tensorflow": ("gpu",), "xla": ("xla-cuda", "xla-tpu")}.get(engine, ())
    help_ = " or ".join(install_command(extra) for extra in extras)
    advice = f"Check its driver (nvidia-smi), and {help_}" if help_ else "Use another --engine"
    return f"{NO_ACCELERATOR}: a GPU or TPU is seen, but {engine} computes on the CPU. {advice}"
