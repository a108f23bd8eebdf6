"""Times of files and objects, within the years 1 to 9999 of Python and of the tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def file_microseconds(nanoseconds: int) -> int | None:
    """Return microseconds since 1970; None for a time outside the years 1 to 9999."""
    microseconds = nanoseconds // 1000
    return microseconds if _FIRST <= microseconds <= _LAST else None


def file_time(nanoseconds: int) -> datetime | None:
    """Return a file's time in UTC; None outside the calendar."""
    microseconds = file_microseconds(nanoseconds)
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def known_times(times: pa.Array) -> pa.Array:
    """Return the times of a bucket's page as microseconds in UTC, null outside the calendar."""
    numbers = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    known = pc.and_(pc.greater_equal(numbers, _FIRST), pc.less_equal(numbers, _LAST))
    return pc.if_else(known, numbers, None).cast(pa.timestamp("us", "UTC"))
