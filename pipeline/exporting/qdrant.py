"""A collection of Qdrant: ``--dest http://HOST:6333#NAME``, or a folder for Qdrant's local mode.

Each row is a point, with its columns as payload. Qdrant divides the vectors by their lengths. The
state is in the collection's metadata, which Qdrant has since version 1.16.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa

from pipeline.exporting import state as states
from pipeline.exporting.base import NAMES, Batch, Job
from pipeline.exporting.places import database_errors, split_dest
from pipeline.exporting.plain import plain
from pipeline.exporting.state import State
from transforms.errors import RunFailed, UserError
from transforms.extras import install_command

# The entry of the collection's metadata.
_KEY = "image_features_export"
# Points in one request: 256 vectors of 1280 numbers are some 5 MB of JSON.
_AT_ONCE = 256
_PAGE = 10_000


class Qdrant:
    """The collection.

    Args:
        job: What to export.

    Raises:
        UserError: Qdrant's client is not installed.
        RunFailed: Qdrant does not answer.
    """

    atomic = False
    adds = True

    def __init__(self, job: Job) -> None:
        try:
            import qdrant_client
            from qdrant_client.http.exceptions import ApiException
        except ImportError as error:
            command = install_command("qdrant")
            raise UserError(f"--to qdrant needs Qdrant's client. {command}") from error
        self._job = job
        self._models: Any = qdrant_client.models
        self._failures = (ApiException, OSError, ValueError, RuntimeError)
        url, self._name = split_dest(job.dest, job.name)
        where = {"url": url} if "://" in url else {"path": url}
        with self._errors():
            self._client: Any = qdrant_client.QdrantClient(
                **where,
                api_key=os.environ.get("QDRANT_API_KEY"),
                timeout=60,
                # It only warns. What is needed is checked where it is used.
                check_compatibility=False,
            )

    def read_state(self) -> State | None:
        if self.is_empty():
            return None
        with self._errors():
            metadata = self._client.get_collection(self._name).config.metadata or {}
        found = metadata.get(_KEY)
        return states.decode_state(found, f"the metadata of {self._job.dest}") if found else None

    def write_state(self, state: State) -> None:
        metadata = {_KEY: states.encode_state(state).decode()}
        if self.is_empty():
            size, distance = self._job.shape.dimension, self._models.Distance.COSINE
            with self._errors():
                self._client.create_collection(
                    self._name,
                    vectors_config=self._models.VectorParams(size=size, distance=distance),
                    metadata=metadata,
                )
        else:
            with self._errors():
                self._client.update_collection(self._name, metadata=metadata)
        if self.read_state() != state:
            raise RunFailed(f"{self._job.dest} keeps no metadata; that needs Qdrant 1.16 or newer")

    def is_empty(self) -> bool:
        with self._errors():
            return not self._client.collection_exists(self._name)

    def clear(self) -> None:
        """Delete the collection; the next state makes it again."""
        with self._errors():
            self._client.delete_collection(self._name)

    def stored(self) -> Iterator[pa.Table]:
        names = [self._job.shape.columns[name] for name in NAMES]
        place = None
        while True:
            with self._errors():
                points, place = self._client.scroll(
                    self._name, limit=_PAGE, offset=place, with_payload=names, with_vectors=False
                )
            columns = [[str((p.payload or {}).get(name, "")) for p in points] for name in names]
            yield pa.table([pa.array(column, pa.string()) for column in columns], list(NAMES))
            if place is None:
                return

    def send(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            names = batch.rows.column_names
            rows = zip(*(plain(column) for column in batch.rows.columns), strict=True)
            with self._errors():
                self._client.upload_collection(
                    self._name,
                    vectors=batch.vectors,
                    payload=[dict(zip(names[1:], row[1:], strict=True)) for row in rows],
                    ids=batch.keys.to_pylist(),
                    batch_size=_AT_ONCE,
                    wait=True,
                )

    def remove(self, keys: Iterator[pa.Array]) -> None:
        for ids in keys:
            chosen = self._models.PointIdsList(points=ids.to_pylist())
            with self._errors():
                self._client.delete(self._name, points_selector=chosen, wait=True)

    def close(self) -> None:
        self._client.close()

    def count(self) -> int | None:
        with self._errors():
            return int(self._client.count(self._name, exact=True).count)

    def finish(self, state: State) -> None:
        self.write_state(state)

    def _errors(self) -> AbstractContextManager[None]:
        return database_errors("Qdrant", self._job.dest, self._failures)


def open_target(job: Job) -> Qdrant:
    """Return the target."""
    return Qdrant(job)


def hint(job: Job) -> str:
    """Say how to search."""
    _, name = split_dest(job.dest, job.name)
    return f'client.query_points("{name}", query=VECTOR, limit=10)'
