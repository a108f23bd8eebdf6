"""Measure near-duplicates: what is found and what is wrong, on pictures whose truth is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

import pipeline
from benchmarks.rows import Row, Settings
from benchmarks.tables import real_table, sample_photos

Picture = Image.Image
_ROWS = 30_000
# Photos with fewer pixels a side have no four quarters to look at.
_MIN_SIDE = 300


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to change a picture."""

    name: str
    change: Callable[[Picture], Picture]
    quality: int = 90  # of the file that it is saved as
    ending: str = "jpg"


def _scaled(share: float) -> Callable[[Picture], Picture]:
    def scale(picture: Picture) -> Picture:
        return picture.resize((round(share * picture.width), round(share * picture.height)))

    return scale


def _cropped(share: float) -> Callable[[Picture], Picture]:
    """Cut a share of the picture off at each side."""

    def crop(picture: Picture) -> Picture:
        x, y = (round(share * length) for length in picture.size)
        return picture.crop((x, y, picture.width - x, picture.height - y))

    return crop


def _brightened(factor: float) -> Callable[[Picture], Picture]:
    return lambda picture: ImageEnhance.Brightness(picture).enhance(factor)


KINDS = (
    *(Kind(f"encoded again as JPEG {q}", Image.Image.copy, q) for q in (80, 50, 20)),
    Kind("encoded again as WebP 50", Image.Image.copy, 50, "webp"),
    *(Kind(f"scaled to {share:.0%}", _scaled(share)) for share in (0.75, 0.5, 0.25)),
    *(Kind(f"cropped by {share:.0%} a side", _cropped(share)) for share in (0.01, 0.03, 0.05, 0.1)),
    *(Kind(f"brightness × {factor:g}", _brightened(factor)) for factor in (0.6, 0.8, 1.25, 1.5)),
    Kind("mirrored", ImageOps.mirror),
)


def duplicates(settings: Settings) -> Iterator[Row]:
    """Measure recall and precision for each kind of change, and the time of many rows."""
    place = settings.folder / "near-duplicates"
    shutil.rmtree(place, ignore_errors=True)
    for number, kind in enumerate(KINDS):
        yield _kind(kind, place / str(number))
    yield _scenes(place / "scenes")
    output = real_table(settings.folder, _ROWS)
    shutil.rmtree(output / "duplicates", ignore_errors=True)
    result = pipeline.duplicates(output)
    detail = f"{result.groups.num_rows:,} images in groups"
    yield Row(f"duplicates of {_ROWS:,} rows", result.seconds, "s", 30, True, detail)


def _kind(kind: Kind, place: Path) -> Row:
    """Look for the changed pictures of one kind among all originals."""
    originals = dict(_originals())
    pictures = {f"{name}.png": picture for name, picture in originals.items()}
    changed = {f"{name}@.{kind.ending}": kind.change(own) for name, own in originals.items()}
    right = wrong = 0
    for group in _groups(pictures | changed, place, kind.quality):
        own = {name.removesuffix("@") for name in group}
        for name in group:
            if name.endswith("@"):
                right += name.removesuffix("@") in group
                wrong += len(own) > 1
    precision = right / max(1, right + wrong)
    detail = (
        f"precision {precision:.3f}; {wrong} of {len(originals)} in a group with another picture"
    )
    what = f"near-duplicates, {kind.name}: recall"
    return Row(what, right / len(originals), "of 1", detail=detail)


def _scenes(place: Path) -> Row:
    """Look for groups among different pictures of the same scene, of which there are none."""
    pictures: dict[str, Picture] = {}
    for name, photo in sample_photos().items():
        if min(photo.size) >= _MIN_SIDE:
            pictures |= {f"{name}-{spot}.png": own for spot, own in _windows(photo, 0.6).items()}
    wrong = sum(len(group) for group in _groups(pictures, place))
    what = "near-duplicates, different pictures of the same scene: in a group"
    return Row(what, wrong / len(pictures), "of 1", detail=f"{wrong} of {len(pictures)}")


def _groups(pictures: Mapping[str, Picture], place: Path, quality: int = 90) -> list[set[str]]:
    """Return the groups of near-duplicates among some pictures, as their names without ending."""
    place.mkdir(parents=True)
    for name, picture in pictures.items():
        picture.save(place / name, quality=quality)
    output = place.with_name(f"{place.name}-out")
    pipeline.extract(pipeline.Config(inputs=(str(place),), output=str(output)))
    names: dict[str, set[str]] = {}
    for row in pipeline.duplicates(output).groups.to_pylist():
        names.setdefault(row["group"], set()).add(Path(row["uri"]).stem)
    return list(names.values())


def _originals() -> Iterator[tuple[str, Picture]]:
    """Yield each photo, and its four quarters, which are other pictures of the same scene."""
    for name, photo in sample_photos().items():
        # The right one of a pair for both eyes looks like the left one.
        if min(photo.size) >= _MIN_SIDE and name != "motorcycle_right":
            yield name, photo
            for spot, quarter in _windows(photo, 0.5).items():
                if spot != "middle":
                    yield f"{name}-{spot}", quarter


def _windows(photo: Picture, share: float) -> dict[str, Picture]:
    """Cut windows out of the corners and the middle of a photo, each a share of its sides."""
    width, height = (int(share * length) for length in photo.size)
    right, low = photo.width - width, photo.height - height
    corners = {"a": (0, 0), "b": (right, 0), "c": (0, low), "d": (right, low)}
    places = corners | {"middle": (right // 2, low // 2)}
    return {name: photo.crop((x, y, x + width, y + height)) for name, (x, y) in places.items()}
