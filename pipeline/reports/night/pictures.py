"""Choose the images that a report shows, and make their thumbnails."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.grouping.store import Store
from pipeline.reports.night.drift import Drift
from pipeline.reports.night.facts import Facts
from pipeline.reports.night.sample import Sample
from pipeline.retrieval.thumbnails import thumbnails
from pipeline.tables import Table, Tables
from transforms.containers.index import Indexes
from transforms.errors import Damaged, ImageError
from transforms.records import REFERENCE_SCHEMA, references_of
from transforms.storage import Storage, StorageError
from transforms.storage.settings import Stores

_LOG = logging.getLogger(__name__)
_AT_RANDOM, _MOST, _GROUPS, _IN_GROUP, _FAILED = 24, 12, 5, 6, 12
# Pixels: a JPEG of this size takes 3 to 4 KB, and a page shows some 80.
_SIDE = 96
Picture = bytes | ImageError


@dataclass(frozen=True, slots=True)
class Shown:
    """An image on the page."""

    uri: str
    note: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class Pictures:
    """The images on the page, under the title of each group."""

    groups: Mapping[str, Sequence[Shown]] = field(default_factory=dict)


def choose_pictures(
    facts: Facts,
    tonight: Sample,
    drift: Drift | None,
    output: Storage,
    tables: Tables,
    stores: Stores,
) -> Pictures:
    """Choose images of the night, and read and decode them.

    An image that cannot be read or has changed since says so in its place.

    Args:
        facts: What the run left behind.
        tonight: A sample of its rows.
        drift: Which of the sample are unlike earlier ones.
        output: The output.
        tables: The tables of the backbone.
        stores: Where buckets are.
    """
    chosen: dict[str, list[tuple[str, str]]] = {
        "New, at random": [(uri, "") for uri in tonight.uris[:_AT_RANDOM]],
        "Most unlike earlier images": _most_novel(tonight, drift),
        "Least certain labels": _least_certain(facts.rows),
    }
    chosen |= _duplicates(facts, output, tables)
    failed = [(item.uri, item.kind) for item in facts.failures[:_FAILED]]
    uris = [uri for group in chosen.values() for uri, _ in group]
    pictures = _read(tables.features, uris, output, stores)
    broken = _read(tables.errors, [uri for uri, _ in failed], output, stores)
    groups = {
        title: [Shown(uri, note, pictures[uri]) for uri, note in group if uri in pictures]
        for title, group in chosen.items()
    }
    # Most failures are files that no decoder can show.
    groups["Failed, and can be shown now"] = [
        Shown(uri, note, broken[uri]) for uri, note in failed if isinstance(broken.get(uri), bytes)
    ]
    return Pictures({title: shown for title, shown in groups.items() if shown})


def _most_novel(tonight: Sample, drift: Drift | None) -> list[tuple[str, str]]:
    if drift is None:
        return []
    order = np.argsort(drift.nearest)[:_MOST]
    return [(tonight.uris[i], f"cosine {drift.nearest[i]:.3f}") for i in order]


def _least_certain(rows: pa.Table) -> list[tuple[str, str]]:
    scored = rows.filter(pc.is_valid(rows["score"])).sort_by("score").slice(0, _MOST)
    columns = (scored[name].to_pylist() for name in ("uri", "label", "score"))
    return [(uri, f"{label} {score:.2f}") for uri, label, score in zip(*columns, strict=True)]


def _duplicates(
    facts: Facts, output: Storage, tables: Tables
) -> Mapping[str, list[tuple[str, str]]]:
    """Return the largest groups of near-duplicates that hold new images."""
    try:
        rows = Store(output, tables.name).read()
    except (Damaged, StorageError) as error:
        _LOG.warning("near-duplicates are not shown: %s", error)
        return {}
    new = pc.is_in(rows["uri"], value_set=facts.rows["uri"].combine_chunks())
    touched = rows.filter(
        pc.is_in(rows["group"], value_set=rows.filter(new)["group"].combine_chunks())
    )
    sizes = Counter(touched["group"].to_pylist())
    groups = {}
    for number, (group, count) in enumerate(sizes.most_common(_GROUPS), start=1):
        members = touched.filter(pc.equal(touched["group"], group)).slice(0, _IN_GROUP)
        pairs = zip(members["uri"].to_pylist(), members["cosine"].to_pylist(), strict=True)
        title = f"Near-duplicates, group {number}: {count:,} images"
        groups[title] = [(uri, f"cosine {cosine:.3f}") for uri, cosine in pairs]
    return groups


def _read(table: Table, uris: Sequence[str], output: Storage, stores: Stores) -> dict[str, Picture]:
    """Return the pictures of rows of the features or the errors table, by their uris."""
    wanted = pc.field("uri").isin(pa.array(sorted(set(uris)), pa.string()))
    rows = table.read(REFERENCE_SCHEMA.names, where=wanted) if uris else None
    if rows is None or not rows.num_rows:
        return {}
    references = references_of(rows)
    found: dict[str, Picture] = {}
    try:
        indexes = Indexes(output, write=False)
        made = thumbnails(references, stores, indexes, side=_SIDE)
        found.update(zip([own.uri for own in references], made, strict=True))
    except StorageError as error:
        _LOG.warning("pictures are left out: %s", error)
    return found
