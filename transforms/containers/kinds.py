"""The kinds of containers. A file's first bytes tell its kind, whatever its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from transforms.containers import parquet, tar, tfrecord, zip
from transforms.containers.base import ContainerDamaged, Found, Walk, Wanted
from transforms.containers.bytes import ContainerFile
from transforms.containers.compressed import MARKS, MAX_STREAM, DecompressedFile
from transforms.errors import FailureKind
from transforms.file_names import Ignored

# Bytes that tell a kind.
HEAD = 512
_ZIP = (b"PK\3\4", b"PK\5\6")
_PARQUET = b"PAR1"
# Members of a container, some 0.5 GiB a million, and bytes of their names and carried values.
MAX_MEMBERS, MAX_TEXT = 5_000_000, 1 << 30


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of container."""

    walk: Walk
    # How the bytes of a member are read, as in ``Member``.
    reader: str
    # Take only members with the name of an image.
    has_names: bool = False

    def find(self, file: ContainerFile, ignored: Ignored, wanted: Wanted) -> Iterator[Found]:
        """Walk through a container, decompressed if need be; see ``Walk``.

        The walk ends as ``too_large`` after more members than fit into memory: a few KiB of a
        Parquet file or a compressed tar can stand for billions.
        """
        walk = (
            self.walk(file, ignored, wanted)
            if self.reader not in MARKS
            else self._stream(file, ignored, wanted)
        )
        text = 0
        for count, found in enumerate(walk, 1):
            text += len(found.name) + len(found.source or "") + len(found.note or "")
            if count > MAX_MEMBERS or text > MAX_TEXT:
                what = (
                    f"it has more than {MAX_MEMBERS:,} members, or {MAX_TEXT:,} bytes of names and "
                    "carried values; make several containers of it"
                )
                raise ContainerDamaged(FailureKind.TOO_LARGE, what)
            yield found

    def _stream(self, file: ContainerFile, ignored: Ignored, wanted: Wanted) -> Iterator[Found]:
        stream = DecompressedFile(file, self.reader)
        for found in self.walk(stream, ignored, wanted):
            yield found._replace(stream=0)
        # A checksum comes last; what was found has one wrong byte or more if it is not right.
        stream.reaches(MAX_STREAM)


def kind_of(file: ContainerFile) -> Kind | None:
    """Tell the kind of a container by its first bytes; None for another file.

    Raises:
        StorageError: The file cannot be read.
        UserError: A compressed file is too large to be looked into.
    """
    head = file.read(0, HEAD)
    for compression, mark in MARKS.items():
        if head.startswith(mark):
            try:
                return _plain(DecompressedFile(file, compression).read(0, HEAD), compression)
            except ContainerDamaged:
                return None
    return _plain(head, "")


def _plain(head: bytes, compression: str) -> Kind | None:
    if tar.is_tar(head):
        return Kind(tar.walk, compression or "range", has_names=True)
    if tfrecord.is_tfrecord(head):
        return Kind(tfrecord.walk, compression or "range")
    if head.startswith(_ZIP) and not compression:
        return Kind(zip.walk, "zip", has_names=True)
    if head.startswith(_PARQUET) and not compression:
        return Kind(parquet.walk, "parquet")
    return None
