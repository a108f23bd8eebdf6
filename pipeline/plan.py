"""Plan: list the sources with Beam, compare with the tables, cut shards. THE graph of the listing."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cluster import at_most
from pipeline.config import Config
from pipeline.runner import new_pipeline, run_failed
from pipeline.runs import Run
from pipeline.summary import Summary
from pipeline.tables import Table
from transforms.errors import Refused, UserError
from transforms.plan import Changes, PlanPolicy, compare, shard_bounds
from transforms.records import REFERENCE_SCHEMA
from transforms.reuse import INDEX_FILE, encode_index
from transforms.sources import nothing_found, parse_input, split
from transforms.storage import Storage

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the sources hold."""

    images: pa.Table  # REFERENCE_SCHEMA
    ignored: int  # files of folders and prefixes that are no images by their name


def list_sources(inputs: Sequence[str], output: Storage, run_folder: str, beam_args: Sequence[str]) -> Listing:
    """List all inputs, in parallel by sub-folder or prefix, through files in the run's folder.

    The files are deleted again: once read they would only take room, night after night.
    """
    import apache_beam as beam

    from transforms.listing import ListImages

    pieces = [piece for text in inputs for piece in split(parse_input(text))]
    with run_failed("of the listing"), new_pipeline(at_most(len(pieces), beam_args)) as pipeline:
        _ = (
            pipeline
            | "Sources" >> beam.Create(list(enumerate(pieces)))
            | "Spread" >> beam.Reshuffle()
            | "ListImages" >> ListImages(output.url, f"{run_folder}/listing")
        )
    listing = read_listing(output, f"{run_folder}/listing")
    for found in list(output.list(f"{run_folder}/listing/")):
        output.delete(found.key)
    return listing


def list_here(inputs: Sequence[str]) -> Listing:
    """The same without Beam and without writing anything, for a dry run."""
    from transforms.listing import list_source

    return _combine(list_source(piece) for text in inputs for piece in split(parse_input(text)))


def read_listing(output: Storage, folder: str) -> Listing:
    """Read the listing files of a run."""
    from transforms.listing import read_listing_file

    keys = sorted(found.key for found in output.list(f"{folder}/"))
    return _combine(read_listing_file(output.read(key)) for key in keys)


def _combine(files: Iterable[tuple[pa.Table, int]]) -> Listing:
    listed = list(files)
    tables = [table for table, _ in listed] or [REFERENCE_SCHEMA.empty_table()]
    return Listing(pa.concat_tables(tables), sum(ignored for _, ignored in listed))


def find_changes(listing: Listing, features: Table, errors: Table, policy: PlanPolicy) -> Changes:
    """Compare the listing with what the tables know."""
    columns = ["uri", "etag", "size"]
    return compare(listing.images, features.read(columns), errors.read([*columns, "kind"]), policy)


def counts(run_id: str, changes: Changes, listing: Listing, config: Config) -> Summary:
    """What the plan comes to, also said in the log."""
    summary = Summary(
        run_id=run_id,
        listed=changes.listed,
        new=changes.new,
        changed=changes.changed,
        unchanged=changes.unchanged,
        retried=changes.retried,
        still_failed=changes.still_failed,
        removed=0 if config.keep_removed else changes.gone,
        kept=changes.gone if config.keep_removed else 0,
        ignored=listing.ignored,
        todo=changes.todo.num_rows,
    )
    said = (summary.listed, summary.ignored, summary.new, summary.changed, summary.retried, summary.unchanged)
    _LOG.info(
        "listed %s images (%s other files ignored): %s new, %s changed, %s to retry, %s unchanged, %s to remove",
        *(f"{count:,}" for count in (*said, summary.removed)),
    )
    return summary


def check_removed(changes: Changes, config: Config, before: Run | None) -> None:
    """Refuse to take more rows out than a quiet change of the sources explains.

    ``before`` is the last good run: when it had inputs that this one lacks, the images of those would be removed
    for no reason but that nobody listed them.
    """
    rate = config.max_removed_rate
    if config.keep_removed or not changes.gone or rate == 1:
        return
    lacking = [text for text in (before.covers if before else ()) if text not in config.inputs]
    if changes.gone <= rate * changes.known and not lacking:
        return
    more = f", more than --max-removed-rate {rate:g} allows" if changes.gone > rate * changes.known else ""
    inputs = f"; the run before had --input {' and '.join(map(shlex.quote, lacking))} too" if lacking else ""
    raise Refused(
        f"{changes.gone:,} of the {changes.known:,} images in {config.output} are not listed any more{more}{inputs}. "
        "Nothing was published. Give all inputs and see that they are complete; or --keep-removed to keep the rows of "
        "such images, or --max-removed-rate 1 to remove them."
    )


def cut(todo: pa.Table, output: Storage, run_folder: str, shard_size: int, workers: int) -> tuple[str, ...]:
    """Write the images to do as shards, Parquet files of references; returns their names."""
    names = []
    for number, (start, length) in enumerate(shard_bounds(todo.num_rows, shard_size, workers)):
        names.append(f"shard-{number:05d}")
        _write(output, f"{run_folder}/plan/{names[-1]}.parquet", todo.slice(start, length))
    return tuple(names)


def write_stale(changes: Changes, output: Storage, run_folder: str) -> None:
    """Write the uris whose rows the run takes out of each table."""
    for name, stale in (("features", changes.features), ("errors", changes.errors)):
        if len(stale.uris):
            _write(output, f"{run_folder}/stale/{name}.parquet", pa.table({"uri": stale.uris}))


def read_stale(output: Storage, run_folder: str, table: str) -> pa.Array:
    """The uris that ``write_stale`` wrote for a table."""
    data = output.read(f"{run_folder}/stale/{table}.parquet")
    return pq.read_table(pa.BufferReader(data))["uri"].combine_chunks()


def write_index(todo: pa.Table, features: Table, output: Storage, run_folder: str) -> bool:
    """Write the index of the vectors that the images to do may share; False when there can be none.

    Equal bytes are equally many, so only rows of an image's size count: few for a night's images, all when
    a list did not tell the sizes.
    """
    sizes = pa.compute.unique(todo["size"])
    unknown = pa.compute.any(pa.compute.less(sizes, 0)).as_py()
    where = None if unknown else pa.compute.field("size").isin(sizes)
    rows = features.read(["content_sha256", "__filename"], where)
    if not rows.num_rows:
        return False
    paths = rows["__filename"].combine_chunks().dictionary_encode()
    names = pa.array([path.rsplit("/", 1)[-1] for path in paths.dictionary.to_pylist()])
    part = pa.DictionaryArray.from_arrays(paths.indices, names).cast(pa.string())
    index = encode_index(pa.table({"content_sha256": rows["content_sha256"], "part": part}))
    output.write(f"{run_folder}/{INDEX_FILE}", index)
    return True


def _write(output: Storage, key: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    output.write(key, sink.getvalue().to_pybytes())


def nothing_listed(inputs: Sequence[str], ignored: int) -> UserError:
    """The error for inputs that hold no image: what was looked for."""
    reasons = [nothing_found(piece) for text in inputs for piece in split(parse_input(text))[:1]]
    return UserError(
        "; ".join(reasons) + (f" ({ignored:,} other files, or links to elsewhere, were ignored)" if ignored else "")
    )
