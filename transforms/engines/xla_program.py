"""Compile a network in StableHLO with JAX' client; keep what is compiled on this machine's disk.

JAX has no public call that compiles a module of StableHLO that another program made, and none that
reads one. This file uses what JAX itself uses for that, and setup.py pins JAX' version.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Any

import numpy as np

from transforms.choices import Precision
from transforms.engines.models import cache_folder

_CPUINFO = Path("/proc/cpuinfo")
# The operations that a device computes faster in a smaller type.
_PRODUCTS = ("stablehlo.convolution", "stablehlo.dot_general", "stablehlo.dot")


def keep_programs(device: Any) -> Path:
    """Have JAX keep its programs for a device on disk, and return the folder.

    A folder serves one kind of device and one version; JAX names each file after all that
    determines the program. A program for a CPU runs on processors of the same kind only.

    Args:
        device: A device of JAX.
    """
    import jax

    kind = f"{device.device_kind} {device.client.platform_version} {jax.__version__}"
    if device.platform == "cpu":
        kind += f" {platform.machine()} {_instructions()}"
    name = hashlib.sha256(kind.encode()).hexdigest()[:16]
    folder = cache_folder().parent / "xla" / name
    # JAX would warn at each program where it cannot write.
    if not jax.config.jax_compilation_cache_dir and _is_folder(folder):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    return folder


def _is_folder(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


def _instructions() -> str:
    lines = _CPUINFO.read_text(errors="replace").splitlines() if _CPUINFO.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def compile_program(code: bytes, precision: Precision, device: Any) -> Any:
    """Compile a module of StableHLO for a device, or take it from the disk.

    Args:
        code: The module, serialized, with products in float32.
        precision: The type of the inputs of its products.
        device: A device of JAX.

    Returns:
        A loaded executable of JAX' client: ``execute(arrays)`` returns a list of arrays.

    Raises:
        JaxRuntimeError: The device has not enough memory.
    """
    from jax._src import compiler
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax._src.lib.mlir import ir

    with mlir.make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(code)
        # JAX takes it for the name of the file; TensorFlow numbers its modules.
        module.operation.attributes["sym_name"] = ir.StringAttr.get("network")
        if precision != "float32":
            _shorten_products(module, precision)
        options = compiler.get_compile_options(
            num_replicas=1, num_partitions=1, device_assignment=np.array([[device.id]])
        )
        return compiler.compile_or_get_cached(
            device.client,
            module,
            np.array([device]),
            options,
            [],
            xla_client.DeviceList((device,)),
        )


def _shorten_products(module: Any, precision: Precision) -> None:
    """Give the inputs of convolutions and products of matrices a type of 16 bits.

    In bfloat16, depthwise convolutions stay as they are: units for matrices do not speed them up.
    Rounding them took the cosine of EfficientNet-Lite0's vector of noise from 0.9995 to 0.978.

    The sums stay in float32, as in the units of GPUs and TPUs. A product of matrices gives them as
    they are. A convolution rounds them at its end, as cuDNN does for XLA on GPUs.
    """
    from jax._src.lib.mlir import ir
    from jax._src.lib.mlir.dialects import hlo

    full = ir.F32Type.get()
    short = ir.BF16Type.get() if precision == "bfloat16" else ir.F16Type.get()

    def with_type(value: Any, element: Any) -> Any:
        shape = ir.RankedTensorType(value.type).shape
        return hlo.convert(ir.RankedTensorType.get(shape, element), value)

    def shorten(operation: Any) -> None:
        for number, operand in enumerate(operation.operands):
            if ir.RankedTensorType(operand.type).element_type == full:
                with ir.InsertionPoint(operation):
                    operation.operands[number] = with_type(operand, short)
        default = hlo.PrecisionAttr.get("DEFAULT")
        operation.attributes["precision_config"] = ir.ArrayAttr.get([default, default])
        if operation.name == "stablehlo.convolution":
            _round_result(operation, with_type, short)

    found: list[Any] = []

    def collect(operation: Any) -> Any:
        kept = precision == "bfloat16" and _is_depthwise(operation)
        if operation.name in _PRODUCTS and not kept:
            found.append(operation.operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    for operation in found:
        shorten(operation)


def _is_depthwise(operation: Any) -> bool:
    """Tell whether an operation is a convolution of single channels; images are [N, H, W, C]."""
    from jax._src.lib.mlir import ir

    if operation.name != "stablehlo.convolution":
        return False
    groups = ir.IntegerAttr(operation.attributes["feature_group_count"]).value
    channels = ir.RankedTensorType(operation.operands[0].type).shape[-1]
    return bool(groups > 1 and groups == channels)


def _round_result(operation: Any, with_type: Any, short: Any) -> None:
    """Have an operation give values of 16 bits, and its users take them in float32."""
    from jax._src.lib.mlir import ir

    [old] = operation.results
    shape, full = ir.RankedTensorType(old.type).shape, ir.RankedTensorType(old.type).element_type
    with ir.InsertionPoint(operation):
        rounded = ir.Operation.create(
            operation.name,
            results=[ir.RankedTensorType.get(shape, short)],
            operands=list(operation.operands),
            attributes={name: operation.attributes[name] for name in operation.attributes},
        )
        old.replace_all_uses_with(with_type(rounded.result, full))
    operation.erase()
