"""Measure two backbones in one run: ``python -m benchmarks.backbones [PHOTOS]``.

The photos have 4.3 megapixels, so reading and decoding take a good part of the time. The same
command runs with both networks, and with each of them alone, in turn. Fails when one run takes more
than 0.9 of the time of two.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.command import Command, extract
from benchmarks.images import make_images

# Light networks, of which one takes a smaller input: it decodes JPEGs at another scale.
FIRST = "efficientnet_lite0"
PAIRS = {
    "inputs of 224 and 224 pixels": "MobileNetV3Small,weights=random",
    "inputs of 224 and 128 pixels": "MobileNetV3Small,weights=random,input-size=128",
}
ROUNDS = 3
MAX_RATIO = 0.9


def measure(photos: list[Path], second: str, cache: Path) -> float:
    """Print the seconds of one run and of two, and return their ratio, the median of all rounds."""
    ratios, seen = [], []
    for number in range(ROUNDS + 1):
        both, *alone = (
            extract(photos, cache, [word for name in names for word in ("--backbone", name)])
            for names in ((FIRST, second), (FIRST,), (second,))
        )
        # The first round exports the networks and fills the page cache.
        if number:
            ratios.append(both.seconds / sum(one.seconds for one in alone))
            seen.append((both, *alone))
    print("  " + "; ".join(_text(one) for one in sorted(seen, key=_seconds)[len(seen) // 2]))
    return statistics.median(ratios)


def _seconds(commands: tuple[Command, ...]) -> float:
    return commands[0].seconds


def _text(command: Command) -> str:
    return f"{command.seconds:.1f} s, {command.peak_mib:,.0f} MiB ({command.shares()})"


def main() -> int:
    """Run all measurements, and return 1 if one is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="?", type=int, default=400)
    count = parser.parse_args().photos
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        photos = make_images(Path(folder, "photos"), count, "large")
        for what, second in PAIRS.items():
            ratio = measure(photos, second, Path(folder, "cache"))
            print(f"one run / two runs, {what}: {ratio:.2f} (at most {MAX_RATIO})")
            worst = max(worst, ratio)
    return int(worst > MAX_RATIO)


if __name__ == "__main__":
    sys.exit(main())
