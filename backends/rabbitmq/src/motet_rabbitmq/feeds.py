"""The control shard's feeds, of flags of cancelled scopes and of events: each entry is numbered, one above the last."""

from __future__ import annotations

import msgspec

from motet.program import Flag
from motet_rabbitmq.calls import call
from motet_rabbitmq.ops import WireFlag
from motet_rabbitmq.state import State, Table

__all__ = ["EVENT", "Feeds", "as_flag"]

FLAGS_KEPT = 3600.0
EVENTS_KEPT = 1000
FLAG, EVENT = "flag", "event"


class Last(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The number of the last entry of a feed, and of the first that is kept."""

    last: int
    first: int = 1
    until: None = None


class Told(msgspec.Struct, frozen=True, array_like=True):
    """A flag, or an event."""

    flag: WireFlag | None
    event: bytes
    until: float | None


class Feeds:
    """Flags are kept for an hour (S9), events by their count (E4)."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.lasts: Table[Last] = Table(state, "fl", Last)
        self.rows: Table[Told] = Table(state, "f", Told)

    def expired(self, kind: str, feed: str, number: str) -> None:
        """A flag has been kept long enough."""
        self.rows.drop(feed, number)
        last = self.last(feed)
        first = max(last.first, int(number) + 1)
        self.lasts.put(feed, "", Last(last.last, first))

    def last(self, feed: str) -> Last:
        return self.lasts.get(feed) or Last(0)

    def add(self, feed: str, told: Told) -> None:
        last = self.last(feed)
        number, first = last.last + 1, last.first
        self.rows.put(feed, str(number), told)
        while feed == EVENT and number - first >= EVENTS_KEPT:
            self.rows.drop(feed, str(first))
            first += 1
        self.lasts.put(feed, "", Last(number, first))
        self.state.notices[feed] = b""

    def write_flag(self, scope: WireFlag) -> None:
        self.add(FLAG, Told(scope, b"", self.state.now + FLAGS_KEPT))

    def read(self, feed: str, after: int, limit: int) -> tuple[int, list[Told]]:
        last = self.last(feed)
        first = max(after + 1, last.first)
        end = min(last.last, first + limit - 1)
        found = (self.rows.get(feed, str(number)) for number in range(first, end + 1))
        return max(end, min(after, last.last)), [told for told in found if told is not None]

    @call()
    def flag(self, scopes: list[WireFlag]) -> None:
        for scope in scopes:
            self.write_flag(scope)

    @call()
    def flags(self, after: int | None) -> tuple[int, list[WireFlag]]:
        """Read the flags after a number, or all that are kept; and the number of the last."""
        last, found = self.read(FLAG, after or 0, 1_000_000)
        return last, [told.flag for told in found if told.flag is not None]

    @call()
    def emit(self, events: list[bytes]) -> None:
        for event in events:
            self.add(EVENT, Told(None, event, None))

    @call()
    def events(self, after: int | None, limit: int) -> tuple[int, list[bytes]]:
        """Read the events after a number, at most `limit`; without one, only the number of the last."""
        if after is None:
            return self.last(EVENT).last, []
        last, found = self.read(EVENT, after, limit)
        return last, [told.event for told in found]


def as_flag(wire: WireFlag) -> Flag:
    """The core's own struct, which is equal to others of its kind only."""
    return Flag(wire.run, wire.segment, wire.first, wire.last)
