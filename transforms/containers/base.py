"""Define what a walk through a container finds, and how it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from transforms.carried import NOTHING, Carry
from transforms.containers.bytes import ContainerFile
from transforms.errors import FailureKind
from transforms.file_names import Ignored


class ContainerDamaged(Exception):
    """The rest of a container cannot be read; what was found before counts."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.problem = f"{kind.word}: {message}"


class Found(NamedTuple):
    """One member of a container. ``Member`` says what the fields mean."""

    # As the container spells it; of a TFRecord or Parquet file the number of the record or row.
    name: str
    offset: int
    length: int
    # Bytes of the encoded image; -1 where unknown.
    size: int
    # Changes when the member does; "" where only the container's own etag and the offset tell.
    etag: str = ""
    stream: int | None = None
    column: str | None = None
    # Path or URL of the file that a row names instead of holding the image.
    path: str | None = None
    problem: str | None = None
    # Carried values, as ``transforms.carried`` encodes them.
    source: str | None = None
    # Content of a file that says something about the image of the same name.
    note: bytes | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to take from containers."""

    # Column or feature that holds the images' bytes; None to find it.
    column: str | None = None
    carry: Carry = NOTHING


# The images, wherever they are found, and nothing with them.
WHATEVER = Wanted()


class Walk(Protocol):
    """Finds the members of one kind of container."""

    def __call__(self, file: ContainerFile, ignored: Ignored, wanted: Wanted) -> Iterator[Found]:
        """Yield the images in a container.

        Args:
            file: The container.
            ignored: Counts the other members.
            wanted: Column of the bytes, and the columns to carry.

        Raises:
            ContainerDamaged: The rest cannot be read.
            UserError: The column does not exist, or has to be named.
            StorageError: The container cannot be read at all now.
        """
