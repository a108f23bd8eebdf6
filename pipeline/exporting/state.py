"""What a destination says of itself: which version of which table it holds, and in which form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from transforms.errors import Refused, UserError
from transforms.storage import NotFound, Storage

FILE = "export.json"
FORMAT = 1
# More than any table has: deltalake searches long for a version far above, or overflows.
_VERSIONS = 1 << 31
# ``clearing`` and ``sending``: a call is at work, or was killed.
Stage = Literal["clearing", "sending", "done"]


@dataclass(frozen=True, slots=True)
class State:
    """What a destination holds."""

    target: str
    table: str  # name of the features table
    table_id: str  # Delta's
    recipe: str  # the recipe's id
    shape: Mapping[str, Any]
    version: int | None = None  # of the table; None before the first call has ended
    rows: int = 0
    stage: Stage = "done"
    call: str = ""  # the call that wrote this
    # Of the version's parts; "" in a state of before it was noted.
    fingerprint: str = ""
    # Of a mirror: for each part the size in bytes of its files, by their keys.
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def taken_over(dest: str) -> Refused:
    """Return the error of a call to whose destination another one writes now."""
    return Refused(
        f"another export to {dest} has started in the meantime; this one has stopped. If no other "
        "one is at work, run the same command again."
    )


def encode_state(state: State) -> bytes:
    """Encode a state as JSON."""
    return json.dumps({"format": FORMAT, **asdict(state)}, indent=1).encode()


def decode_state(data: bytes | str, where: str) -> State:
    """Decode a state.

    Args:
        data: Its JSON.
        where: Where it lies, for the message.

    Raises:
        UserError: It is damaged, or another version of this program wrote it.
    """
    try:
        fields = json.loads(data)
        if fields.pop("format") != FORMAT:
            raise ValueError("another format")
        state = State(**fields)
        _check_types(state)
        return state
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{where} is not what an export of this version writes ({error}). Give --replace to "
            "send all rows anew"
        ) from error


def _check_types(state: State) -> None:
    """Check what a later step would stumble over.

    Raises:
        ValueError: A field has another type.
    """
    texts = (
        *(state.target, state.table, state.table_id, state.recipe, state.stage, state.call),
        state.fingerprint,
    )
    right = (
        all(isinstance(text, str) for text in texts)
        and (state.version is None or _is_number(state.version, _VERSIONS))
        and _is_number(state.rows, 1 << 62)
        and state.stage in get_args(Stage)
        and isinstance(state.shape, dict)
        and isinstance(state.files, dict)
        and all(isinstance(sizes, dict) for sizes in state.files.values())
    )
    if not right:
        raise ValueError("a field holds something else")


def _is_number(value: object, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


def read_state(storage: Storage, key: str = FILE) -> State | None:
    """Read the state that lies in a folder or a bucket; None when there is none.

    Raises:
        UserError: It is damaged.
        StorageError: The storage does not answer.
    """
    try:
        data = storage.read(key)
    except NotFound:
        return None
    return decode_state(data, f"{storage.url}/{key}")


def write_state(storage: Storage, state: State, key: str = FILE) -> None:
    """Write the state into a folder or a bucket, whole or not at all."""
    storage.write(key, encode_state(state))
