"""What a shard knows, as rows under names; a change is a row's whole new value, so that a log of changes is the state.

Nothing here knows the broker, the clock or chance: what comes in decides what comes out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import msgspec

__all__ = ["Change", "Full", "Output", "Row", "State", "Table"]

T = TypeVar("T", bound=msgspec.Struct)
NAMES = 40
"""Bytes that a row costs beside its value, in the log and in memory."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row's whole new value, or None when it is gone."""

    kind: str
    first: str
    second: str
    value: bytes | None

    @property
    def name(self) -> tuple[str, str, str]:
        """Which row it is."""
        return self.kind, self.first, self.second


class Output(msgspec.Struct, frozen=True, gc=False):
    """What leaves a shard before its change is committed: a message for a lane, or a request for another shard."""

    queue: str
    body: bytes


class Full(Exception):
    """Raised when a request would make the live state larger than is allowed. Nothing of the request was done."""


class Row(Protocol):
    """What is kept under a name."""

    @property
    def until(self) -> float | None:
        """When time does something to it: seconds since the epoch, or never."""
        ...


class Table(Generic[T]):
    """The rows of one kind. `noted` hears of every change, also of those that are replayed, to keep an index."""

    def __init__(
        self,
        state: State,
        kind: str,
        type_: type[T],
        noted: Callable[[str, str, T | None, T | None], None] | None = None,
    ) -> None:
        self.state = state
        self.kind = kind
        self.rows: dict[str, dict[str, T]] = {}
        self.decode: Callable[[bytes], T] = msgspec.msgpack.Decoder(type_).decode
        self.noted = noted
        state.tables[kind] = self

    def get(self, first: str, second: str = "") -> T | None:
        of_first = self.rows.get(first)
        return None if of_first is None else of_first.get(second)

    def of(self, first: str) -> Mapping[str, T]:
        """The rows that share a first name."""
        return self.rows.get(first, NOTHING)

    def put(self, first: str, second: str, value: T) -> None:
        self._set(first, second, value)
        self.state.dirty[self.kind, first, second] = None

    def drop(self, first: str, second: str = "") -> bool:
        """Forget a row; say whether it was there."""
        there = self._unset(first, second)
        if there:
            self.state.dirty[self.kind, first, second] = None
        return there

    def load(self, first: str, second: str, raw: bytes | None) -> None:
        """Replay a change."""
        if raw is None:
            self._unset(first, second)
        else:
            self._set(first, second, self.decode(raw))
        self.state.weigh((self.kind, first, second), raw)

    def raw(self, first: str, second: str) -> bytes | None:
        value = self.get(first, second)
        return None if value is None else encode(value)

    def _set(self, first: str, second: str, value: T) -> None:
        of_first = self.rows.get(first)
        if of_first is None:
            of_first = self.rows[first] = {}
        before = of_first.get(second)
        of_first[second] = value
        until: float | None = getattr(value, "until", None)
        if until is not None:
            heapq.heappush(self.state.dues, (until, self.kind, first, second))
        if self.noted is not None:
            self.noted(first, second, before, value)

    def _unset(self, first: str, second: str) -> bool:
        of_first = self.rows.get(first)
        before = None if of_first is None else of_first.pop(second, None)
        if of_first is None or before is None:
            return False
        if not of_first:
            del self.rows[first]
        if self.noted is not None:
            self.noted(first, second, before, None)
        return True


encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


class State:
    """All tables of a shard, and what the request at hand has led to so far.

    `now` is the time of that request, and never goes back. `again` says that it may have had its outputs before.
    """

    def __init__(self) -> None:
        self.tables: dict[str, Table[Any]] = {}
        self.dirty: dict[tuple[str, str, str], None] = {}
        self.sizes: dict[tuple[str, str, str], int] = {}
        self.live: int = 0
        self.dues: list[tuple[float, str, str, str]] = []
        self.outputs: list[Output] = []
        self.wakes: dict[str, None] = {}
        self.notices: dict[str, bytes] = {}
        self.now: float = 0.0
        self.again: bool = False
        self.epoch: str = ""
        self._serial: int = 0

    @property
    def touched(self) -> bool:
        """Whether anything has changed, is to be sent, or to be told."""
        return bool(self.dirty or self.outputs or self.wakes or self.notices)

    def serial(self) -> int:
        """Return microseconds that are greater than all before, as long as clocks agree about the past."""
        self._serial = max(self._serial + 1, int(self.now * 1_000_000))
        return self._serial

    def heard(self, serial: int) -> None:
        """Replayed: a serial that was given out."""
        self._serial = max(self._serial, serial)

    def nonce(self) -> str:
        """Return what no other owner of this shard ever gave out, nor this one before."""
        return f"{self.epoch}{self.serial():x}"

    def load(self, changes: Iterable[Change]) -> None:
        """Replay what was committed; the last change of a row counts."""
        for change in changes:
            self.tables[change.kind].load(change.first, change.second, change.value)

    def changes(self) -> list[Change]:
        """Take what has changed since the last call."""
        taken: list[Change] = []
        for name in self.dirty:
            change = self.change(name)
            self.weigh(name, change.value)
            taken.append(change)
        self.dirty.clear()
        return taken

    def change(self, name: tuple[str, str, str]) -> Change:
        """A row as it is now."""
        kind, first, second = name
        return Change(kind, first, second, self.tables[kind].raw(first, second))

    def weigh(self, name: tuple[str, str, str], raw: bytes | None) -> None:
        """Keep account of the size of the live state."""
        before = self.sizes.pop(name, 0)
        after = 0 if raw is None else len(raw) + NAMES + len(name[1]) + len(name[2])
        if after:
            self.sizes[name] = after
        self.live += after - before

    def next_due(self) -> float | None:
        """When time next does something: seconds since the epoch."""
        while self.dues:
            until, kind, first, second = self.dues[0]
            row = self.tables[kind].get(first, second)
            if row is not None and row.until == until:
                return until
            heapq.heappop(self.dues)
        return None

    def due(self) -> Iterable[tuple[str, str, str]]:
        """Take the names of rows whose time has come by now."""
        while (until := self.next_due()) is not None and until <= self.now:
            _, kind, first, second = heapq.heappop(self.dues)
            yield kind, first, second
