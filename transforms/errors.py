"""Errors: a user's mistake or a failed run stops the run; a bad image costs one row."""

from enum import Enum
from typing import Literal

Stage = Literal["read", "decode", "embed"]


class UserError(Exception):
    """A mistake that its user can fix: one clear line, no traceback.

    The message says what was seen, what is allowed and what to do.
    """


class FailureKind(Enum):
    """Why an image has no vector: a closed set, so that counts by kind stay readable.

    A *transient* kind is tried again by the next run; a *permanent* one only when the image's etag
    changes.
    """

    NOT_FOUND = ("not_found", True)
    PERMISSION_DENIED = ("permission_denied", True)
    IO_ERROR = ("io_error", True)
    CHANGED = ("changed", True)
    ENGINE_ERROR = ("engine_error", True)
    EMPTY = ("empty", False)
    TOO_LARGE = ("too_large", False)
    TOO_MANY_PIXELS = ("too_many_pixels", False)
    NOT_AN_IMAGE = ("not_an_image", False)
    UNSUPPORTED = ("unsupported", False)
    TRUNCATED = ("truncated", False)
    CORRUPT = ("corrupt", False)
    NON_FINITE = ("non_finite", False)

    def __init__(self, word: str, transient: bool) -> None:
        self.word = word
        self.transient = transient


def kind_of_problem(problem: str) -> tuple[FailureKind, str]:
    """Split ``WORD: MESSAGE``, which a container says of a member, into kind and message."""
    word, _, message = problem.partition(": ")
    return next(kind for kind in FailureKind if kind.word == word), message


class ImageError(Exception):
    """One image cannot go on: it becomes a row of the errors table and touches no other image."""

    def __init__(self, stage: Stage, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.stage: Stage = stage
        self.kind = kind
        self.message = message


class Refused(Exception):
    """The run ends without publishing, on purpose; the published tables are as they were."""


class Damaged(Refused):
    """Parts of a published table are not there any more, or do not hold what was written."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what}; nothing was changed. 'image-features repair OUTPUT' takes damaged parts out "
            "of the table, and the next run does their images again."
        )


class RunFailed(Exception):
    """Storage, a worker or the runner failed; the published tables are unchanged."""


def first_line(error: Exception) -> str:
    """Return the first line of a library's message, or the error's type if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
