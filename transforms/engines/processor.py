"""Tell in which precisions the processor of this machine computes by itself."""

from __future__ import annotations

import re
from pathlib import Path

from transforms.choices import Precision

_CPUINFO = Path("/proc/cpuinfo")
# The names of Linux for the instructions of x86 and of ARM.
_INSTRUCTIONS: dict[Precision, frozenset[str]] = {
    "bfloat16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
}


def is_native(precision: Precision, cpuinfo: str | None = None) -> bool:
    """Tell whether the processor has instructions for a precision.

    A processor without them computes in float32, at the speed of float32.

    Args:
        precision: A word of ``Precision``.
        cpuinfo: The text of ``/proc/cpuinfo``; None reads it.

    Returns:
        Also True where it cannot be found out.
    """
    if cpuinfo is None:
        cpuinfo = _CPUINFO.read_text(errors="replace") if _CPUINFO.exists() else ""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    needed = _INSTRUCTIONS.get(precision)
    return not lines or needed is None or bool(needed & set(lines[0].split()))
