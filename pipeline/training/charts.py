"""Draw curves and a confusion matrix as SVG, without a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.reports.html import text_of

_WIDTH, _HEIGHT, _MARGIN = 460, 260, 46
# Of two curves: dark enough on white, light enough on black.
_COLORS = ("#3572b0", "#d9822b")


def curves(title: str, lines: Mapping[str, Sequence[float]]) -> str:
    """Draw one line for each name, over epochs 1 to n.

    Args:
        title: What is drawn.
        lines: For each name the value of each epoch; a name without values is left out.
    """
    drawn = {name: list(values) for name, values in lines.items() if values}
    everything = [value for values in drawn.values() for value in values]
    if not everything:
        return ""
    low, high = min(0.0, min(everything)), max(everything)
    high = high if high > low else low + 1
    count = max(map(len, drawn.values()))
    parts = [_open(_WIDTH, _HEIGHT, title), _axes(title, low, high, count)]
    for number, (name, values) in enumerate(drawn.items()):
        color = _COLORS[number % len(_COLORS)]
        points = " ".join(
            f"{_x(epoch, count):.1f},{_y(value, low, high):.1f}"
            for epoch, value in enumerate(values, 1)
        )
        parts.append(
            f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>'
            f'<text x="{_WIDTH - _MARGIN}" y="{_MARGIN - 24 + 16 * number}" fill="{color}" '
            f'text-anchor="end">{text_of(name)} {values[-1]:.4g}</text>'
        )
    return "".join([*parts, "</svg>\n"])


def _axes(title: str, low: float, high: float, count: int) -> str:
    bottom, right = _HEIGHT - _MARGIN, _WIDTH - _MARGIN
    marks = [
        f'<line x1="{_MARGIN}" x2="{right}" y1="{_y(v, low, high):.1f}" y2="{_y(v, low, high):.1f}"'
        f' stroke="#8886"/><text x="{_MARGIN - 6}" y="{_y(v, low, high) + 4:.1f}" '
        f'text-anchor="end" fill="currentColor">{v:.3g}</text>'
        for v in (low + (high - low) * step / 4 for step in range(5))
    ]
    epochs = [
        f'<text x="{_x(epoch, count):.1f}" y="{bottom + 18}" text-anchor="middle" '
        f'fill="currentColor">{epoch}</text>'
        for epoch in sorted({1, (count + 1) // 2, count})
    ]
    label = (
        f'<text x="{_MARGIN}" y="{_MARGIN - 16}" fill="currentColor">{text_of(title)}</text>'
        f'<text x="{_WIDTH / 2}" y="{bottom + 36}" text-anchor="middle" '
        'fill="currentColor">epoch</text>'
    )
    return "".join([*marks, *epochs, label])


def _x(epoch: int, count: int) -> float:
    return _MARGIN + (_WIDTH - 2 * _MARGIN) * (epoch - 1) / max(count - 1, 1)


def _y(value: float, low: float, high: float) -> float:
    return _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * (value - low) / (high - low)


def confusion_matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Draw how many rows of each true class (down) got which class (across).

    Args:
        counts: [true, said].
        names: Of the classes.
    """
    cell, left = 26, 150
    size = left + cell * len(names) + 8
    parts = [_open(size, size, "confusion matrix")]
    for row, name in enumerate(names):
        total = max(sum(counts[row]), 1)
        middle = left + cell * row + cell / 2 + 4
        parts.append(
            f'<text x="{left - 6}" y="{middle}" text-anchor="end" fill="currentColor">'
            f"{_short(name)}<title>{text_of(name)}</title></text>"
            f'<text transform="translate({middle} {left - 6}) rotate(-90)" fill="currentColor">'
            f"{_short(name)}<title>{text_of(name)}</title></text>"
        )
        for column, said in enumerate(names):
            count = counts[row][column]
            color = "#3572b0" if row == column else "#d9822b"
            tip = f"{text_of(name)} → {text_of(said)}: {count:,}"
            parts.append(
                f'<rect x="{left + cell * column}" y="{left + cell * row}" width="{cell - 1}" '
                f'height="{cell - 1}" fill="{color}" '
                f'fill-opacity="{0.04 + 0.86 * count / total:.2f}"><title>{tip}</title></rect>'
            )
            if count:
                parts.append(
                    f'<text x="{left + cell * column + cell / 2}" y="{middle}" '
                    f'text-anchor="middle" fill="currentColor" font-size="9">{_number(count)}'
                    "</text>"
                )
    return "".join([*parts, "</svg>\n"])


def _open(width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-size="12" font-family="sans-serif" role="img">'
        f"<title>{text_of(title)}</title>"
    )


def _short(name: str) -> str:
    return text_of(name if len(name) <= 20 else f"{name[:19]}…")


def _number(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.0f}k"
