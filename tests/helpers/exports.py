"""Two nights of real photos, to export one after the other; use as a pytest plugin."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.runs import make_folder, read_features, vectors


@dataclass
class Place:
    """An output that stands at the night that a test asks for, and a place to export to."""

    nights: Path
    root: Path

    @property
    def output(self) -> Path:
        return self.root / "out"

    @property
    def dest(self) -> Path:
        return self.root / "dest"

    def night(self, number: int) -> Path:
        """Put the output of a night in place; all nights are versions of one table."""
        shutil.rmtree(self.output, ignore_errors=True)
        return shutil.copytree(self.nights / f"out{number}", self.output)

    def export(self, to: str, dest: Any = None, **options: Any) -> Any:
        from pipeline import ExportConfig, export

        return export(self.output, ExportConfig(to, str(dest or self.dest), **options))

    def table(self) -> Any:
        return read_features(self.output)


@pytest.fixture(scope="session")
def export_nights(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Make ``out1`` of six photos; in ``out2`` one is changed, one is gone and two are new."""
    from pipeline import Config, extract

    root = tmp_path_factory.mktemp("exports")
    images = make_folder(root / "images", photos)
    night = Config(inputs=(str(images),), output=str(root / "out"), shard_size=3)
    extract(night)
    shutil.copytree(root / "out", root / "out1")
    (images / "rocket.jpg").unlink()
    with Image.open(images / "coffee.jpg") as photo:
        changed = photo.crop((40, 30, 260, 190))
    changed.save(images / "coffee.jpg")
    make_folder(images / 'it\'s; "new"', photos, "cell moon")
    extract(night)
    (root / "out").rename(root / "out2")
    return root


@pytest.fixture
def place(export_nights: Path, tmp_path: Path) -> Place:
    made = Place(export_nights, tmp_path)
    made.night(1)
    return made


def counts(result: Any) -> tuple[int, int, int]:
    return result.counts.added, result.counts.changed, result.counts.removed


def check_nearest(table: Any, search: Callable[[np.ndarray], Sequence[str]]) -> None:
    """Compare the 5 nearest rows of each row with exact search in float64."""
    matrix = vectors(table)
    uris = table["uri"].to_pylist()
    exact = matrix.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1)[:, None]
    for query, cosines in zip(matrix, exact @ exact.T, strict=True):
        assert list(search(query)) == [uris[row] for row in np.argsort(-cosines)[:5]]


def cosine_search(ids: Sequence[str], matrix: np.ndarray) -> Callable[[np.ndarray], list[str]]:
    """Search what a reader has found at a destination."""
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1)

    def search(query: np.ndarray) -> list[str]:
        cosines = matrix.astype(np.float64) @ query / lengths
        return [ids[row] for row in np.argsort(-cosines)[:5]]

    return search


class Readers:
    """Read with other libraries what lies at a destination: uris [n] and vectors float32 [n, D]."""

    @classmethod
    def read(cls, to: str, dest: Path) -> tuple[list[str], np.ndarray]:
        return getattr(cls, to.split(",")[0])(dest)

    @staticmethod
    def npy(dest: Path) -> tuple[list[str], np.ndarray]:
        """Read the pairs of files as clip-retrieval does: sorted by name."""
        matrices = [np.load(path) for path in sorted((dest / "img_emb").iterdir())]
        tables = [pq.read_table(path) for path in sorted((dest / "metadata").iterdir())]
        assert [len(matrix) for matrix in matrices] == [table.num_rows for table in tables]
        return pa.concat_tables(tables)["uri"].to_pylist(), np.concatenate(matrices)

    @staticmethod
    def parquet(dest: Path) -> tuple[list[str], np.ndarray]:
        table = ds.dataset(dest / "data", partitioning="hive").to_table()
        return table["uri"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32)

    @staticmethod
    def vertex(dest: Path) -> tuple[list[str], np.ndarray]:
        there = load_batches(dest, read_avro)
        return list(there), np.array(list(there.values()), np.float32)

    @staticmethod
    def projector(dest: Path) -> tuple[list[str], np.ndarray]:
        lines = (dest / "rows.tsv").read_text(encoding="utf-8").splitlines()[1:]
        vectors = np.fromfile(dest / "vectors.bytes", np.float32).reshape(len(lines), -1)
        return [line.split("\t")[0] for line in lines], vectors

    @staticmethod
    def lance(dest: Path) -> tuple[list[str], np.ndarray]:
        import lancedb

        table = lancedb.connect(str(dest.parent)).open_table(dest.stem).to_arrow()
        return table["uri"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32)


def load_batches(dest: Path, read: Callable[[Path], Iterator[Any]]) -> dict[str, Any]:
    """Apply all batches, as the service does; return vectors by id."""
    there: dict[str, Any] = {}
    for folder in sorted(dest.glob("v*")):
        sent = dict(read(folder))
        files = folder.glob("delete/*")
        removed = [line for file in files for line in file.read_text().splitlines()]
        assert not sent.keys() & set(removed)
        there |= sent
        for key in removed:
            del there[key]
    return there


def read_avro(folder: Path) -> Iterator[tuple[str, list[float]]]:
    import fastavro

    for path in sorted(folder.glob("*.avro")):
        with path.open("rb") as file:
            for row in fastavro.reader(file):
                yield row["id"], row["embedding"]
