"""Values on their way into the file. SQLite keeps what it is given: a text for bytes would come back a text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn

from motet.errors import UsageError
from motet.options import Lane

__all__ = ["blob", "check_lanes", "count", "lane_name", "lane_of", "micros", "moment", "refuse", "text"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def refuse(what: str, given: object) -> NoReturn:
    """Refuse a value.

    Raises:
        UsageError: Always.
    """
    raise UsageError(f"{given!r:.200} is no {what}")


def blob(value: object) -> bytes:
    """Return bytes as they are, and refuse what is none."""
    return value if type(value) is bytes else refuse("bytes", value)


def text(value: object) -> str:
    """Return a text as it is. SQLite's JSON, by which we ask for many at once, ends at a NUL."""
    return value if isinstance(value, str) and "\0" not in value else refuse("text that can be stored", value)


def count(value: object, least: int = 0) -> int:
    """Return an integer that is not too small."""
    return value if type(value) is int and value >= least else refuse(f"integer >= {least}", value)


def micros(when: datetime) -> int:
    """Return an instant as an integer, so that it can be compared for being equal, in any year."""
    given: Any = when  # what the annotation says is not what every caller does
    if not isinstance(given, datetime) or given.utcoffset() is None:
        refuse("datetime with a time zone", given)
    return (when - EPOCH) // MICROSECOND


def moment(number: int) -> datetime:
    """Return the instant that was stored."""
    return EPOCH + number * MICROSECOND


@lru_cache(4096)
def lane_name(lane: Lane) -> str:
    """Return the stored form of a lane; neither a queue nor a size has a colon in it."""
    queue, size, priority = lane
    if ":" in text(queue) or ":" in str(size):
        refuse("lane", lane)
    return f"{queue}:{size}:{priority:d}"


def check_lanes(lanes: Sequence[Lane]) -> None:
    """Refuse lanes of which one is none, before they meet those of others.

    Raises:
        UsageError: One is none.
    """
    try:
        for lane in lanes:
            lane_name(lane)
    except (TypeError, ValueError):
        refuse("sequence of lanes", lanes)


@lru_cache(4096)
def lane_of(name: str) -> Lane:
    """Read the stored form of a lane."""
    queue, size, priority = name.split(":")
    return Lane(queue, size, int(priority))
