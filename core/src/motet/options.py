"""What may be said about a call besides its arguments: where it goes, how long it may take, what failure does."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from motet.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motet.retry import RetryPolicy

__all__ = ["CONTROL", "Lane", "Options", "Priority", "Size", "check_options", "instant", "seconds"]


class Priority(enum.IntEnum):
    """Which lane of a queue a message takes; a worker empties the higher one first."""

    REALTIME = 0
    NORMAL = 1
    BACKGROUND = 2


class Size(enum.StrEnum):
    """How much of a worker a task needs; a worker may serve one size only (`motet worker --size`)."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class Lane(NamedTuple):
    """A physical queue. `str(lane)` is its name on every backend."""

    queue: str
    size: str
    priority: int

    def __str__(self) -> str:
        return f"{self.queue}:{self.size}:{self.priority}"


CONTROL = Lane("motet", "control", 0)
"""The lane of internal messages. Every worker consumes it: they need a plan, never the registry."""


class Options(TypedDict, total=False):
    """What `.set()` takes. Durations are float seconds or `timedelta`; an `eta` is an aware `datetime`."""

    queue: str
    priority: Priority
    size: Size
    timeout: float | timedelta | None
    retry_policy: RetryPolicy
    delay: float | timedelta
    eta: datetime
    expires: float | timedelta | datetime
    headers: Mapping[str, str]
    dlq_eligible: bool
    result_ttl: float | timedelta
    max_deliveries: int
    delivery: Literal["at_least_once", "at_most_once"]


KNOWN = frozenset(Options.__annotations__)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what no task understands.

    Raises:
        UsageError: An option is unknown, or its value has the wrong type.
    """
    if unknown := options.keys() - KNOWN:
        raise UsageError(f"unknown option {', '.join(sorted(unknown))}; there are {', '.join(sorted(KNOWN))}")
    for name in ("timeout", "delay", "result_ttl"):
        if options.get(name) is not None:
            seconds(options[name], name)
    for name, enumeration in (("priority", Priority), ("size", Size)):
        if name in options and not isinstance(options[name], enumeration):
            members = ", ".join(f"{enumeration.__name__}.{member.name}" for member in enumeration)
            raise UsageError(f"{name}={options[name]!r}: write one of {members}")
    if "eta" in options:
        aware(options["eta"], "eta")
    queue = options.get("queue")
    if queue is not None and not valid_queue(queue):
        raise UsageError(f"queue={queue!r}: use letters, digits, '-', '_' and '.', at most 64")


def valid_queue(queue: object) -> bool:
    """Say whether every broker can carry a queue of this name."""
    return (
        isinstance(queue, str)
        and 0 < len(queue) <= 64
        and queue != CONTROL.queue
        and queue.isascii()
        and all(letter.isalnum() or letter in "-_." for letter in queue)
    )


def seconds(duration: float | timedelta, what: str = "a duration") -> float:
    """Read a public duration.

    Raises:
        UsageError: It is negative, not finite, or not a number of seconds at all.
    """
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    given: Any = duration  # what the annotation says is not what every caller does
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1e10:
        raise UsageError(f"{what} must be seconds (a number >= 0) or a timedelta, not {given!r}")
    return float(given)


def aware(moment: object, what: str) -> datetime:
    """Read a public instant.

    Raises:
        UsageError: It is not a `datetime`, or has no time zone.
    """
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise UsageError(f"{what} must be a datetime with a time zone, not {moment!r}")
    return moment


def instant(moment: float | timedelta | datetime, now: datetime, what: str) -> datetime:
    """Read an instant given as such, or as a duration from `now`."""
    if isinstance(moment, datetime):
        return aware(moment, what)
    return now + timedelta(seconds=seconds(moment, what))
