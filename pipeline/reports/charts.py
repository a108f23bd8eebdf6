"""Draw small charts as SVG, for pages without scripts. Colours follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from pipeline.reports.html import text_of

# Of values, and of those that stand out: readable on white and on black.
_COLOR, _OTHER = "#3572b0", "#d9822b"
_GREY = "#8888"


def sparkline(
    title: str, values: Sequence[float | None], width: int = 180, height: int = 36
) -> Markup:
    """Draw bars over nights, the last one in another colour; None is a gap.

    Args:
        title: Read out by screen readers, and shown under the pointer.
        values: From the oldest to the newest, not negative.
        width: Pixels.
        height: Pixels.
    """
    most = max((value for value in values if value), default=0) or 1
    step = width / max(len(values), 1)
    bars = []
    for number, value in enumerate(values):
        tall = 0 if value is None else max(value / most * (height - 1), 1 if value else 0)
        color = _OTHER if number == len(values) - 1 else _COLOR
        bars.append(
            f'<rect x="{number * step:.1f}" y="{height - tall:.1f}" width="{step * 0.8:.1f}" '
            f'height="{tall:.1f}" fill="{color}"/>'
        )
    return _svg(title, width, height, bars)


def bar(title: str, share: float, width: int = 160, other: float | None = None) -> Markup:
    """Draw a share from 0 to 1 as a bar, and another one as a mark on it."""
    parts = [
        f'<rect width="{width}" height="12" fill="{_GREY}"/>',
        f'<rect width="{width * min(max(share, 0), 1):.1f}" height="12" fill="{_COLOR}"/>',
    ]
    if other is not None:
        place = width * min(max(other, 0), 1)
        parts.append(f'<rect x="{place - 1:.1f}" width="2" height="12" fill="{_OTHER}"/>')
    return _svg(title, width, 12, parts)


def histogram(title: str, values: np.ndarray, bins: int = 30) -> Markup:
    """Draw how often values [n] occur, with the smallest and the largest one as text."""
    width, height = 320, 90
    # Float32 has not as many numbers between two lengths of about 1.
    values = values.astype(np.float64)
    counts, edges = np.histogram(values, bins)
    step, most = width / bins, max(int(counts.max()), 1)
    parts = [
        f'<rect x="{number * step:.1f}" y="{height - 16 - count / most * (height - 18):.1f}" '
        f'width="{step * 0.9:.1f}" height="{count / most * (height - 18):.1f}" fill="{_COLOR}"/>'
        for number, count in enumerate(counts.tolist())
    ]
    text = 'fill="currentColor" font-size="12"'
    parts.append(f'<text x="0" y="{height - 2}" {text}>{edges[0]:.3g}</text>')
    end = f'<text x="{width}" y="{height - 2}" text-anchor="end" {text}>{edges[-1]:.3g}</text>'
    return _svg(title, width, height, [*parts, end])


def scatter(title: str, earlier: np.ndarray, tonight: np.ndarray) -> Markup:
    """Draw places [n, 2] of earlier images, and those of tonight's above them."""
    size = 420
    every = np.concatenate([earlier, tonight])
    low, high = np.quantile(every, [0.005, 0.995], axis=0)
    parts = []
    for places, color, radius in ((earlier, _GREY, 1.6), (tonight, _OTHER, 2.2)):
        scaled = np.clip((places - low) / np.maximum(high - low, 1e-12), 0, 1) * (size - 8) + 4
        dots = "".join(
            f'<circle cx="{x:.0f}" cy="{size - y:.0f}" r="{radius}"/>' for x, y in scaled.tolist()
        )
        parts.append(f'<g fill="{color}">{dots}</g>')
    return _svg(title, size, size, parts)


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> Markup:
    """Return a drawing as markup: ``parts`` hold numbers only, and the title is escaped."""
    return Markup(
        f'<svg role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'aria-label="{text_of(title)}"><title>{text_of(title)}</title>{"".join(parts)}</svg>'
    )
