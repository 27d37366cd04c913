"""Records of runs in a memory broker: values, counters and barriers by run, and the flags of cancelled scopes."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import NamedTuple

from motet.errors import UsageError
from motet.message import Key
from motet.ports import Barrier, Clock
from motet.program import Arrival, Flag, Once, Open, Put

__all__ = ["Records", "Slots"]

FLAGS_KEPT = timedelta(hours=1)


class Counter(NamedTuple):
    """Where a counter is kept: apart from the record of that key."""

    run: str
    name: str
    kind: str = "counter"


class Slots:
    """A barrier: slots in the order in which they arrived, with the failures that each brought."""

    __slots__ = ("arrived", "failed", "fast", "max_failed", "size")

    def __init__(self, op: Open) -> None:
        self.size: int = op.size
        self.max_failed: int = op.max_failed
        self.fast: bool = op.fast
        self.arrived: dict[int, int] = {}
        self.failed: int = 0

    def arrive(self, slot: int, failed: int) -> Arrival:
        if slot not in self.arrived:
            self.arrived[slot] = failed
            self.failed += failed
        return Arrival(self.size, len(self.arrived), self.failed, self.max_failed, self.fast)


class Records:
    """What port S keeps."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.values: dict[str, dict[str, bytes]] = {}
        self.counters: dict[str, dict[str, int]] = {}
        self.barriers: dict[Key, Slots] = {}
        # When each thing goes; the heap may hold older times of it, which mean nothing any more.
        self.ends: dict[Hashable, float] = {}
        self.expiries: list[tuple[float, Key | Counter]] = []
        self.flags: list[tuple[datetime, Flag]] = []
        self.dropped_flags: int = 0

    def put_once(self, op: Once) -> bytes | None:
        """Write where nothing is; answer what was there."""
        records = self.values.get(op.key.run)
        if records is None:
            records = self.values[op.key.run] = {}
        stored = records.get(op.key.name)
        if stored is not None:
            return stored
        records[op.key.name] = op.value
        if op.ttl is not None:
            self.age(op.key, op.ttl)
        return None

    def put(self, op: Put) -> None:
        """Write the value, with its own time to live (S13)."""
        self.values.setdefault(op.key.run, {})[op.key.name] = op.value
        self.age(op.key, op.ttl)

    def age(self, key: Key | Counter, ttl: timedelta | None) -> None:
        """Let a thing go after its time to live, and at no time that it was given before."""
        if ttl is None:
            self.ends.pop(key, None)
            return
        due = self.clock.monotonic() + ttl.total_seconds()
        self.ends[key] = due
        heapq.heappush(self.expiries, (due, key))

    def expire(self) -> None:
        """Forget what has expired."""
        while self.expiries and self.expiries[0][0] <= self.clock.monotonic():
            due, key = heapq.heappop(self.expiries)
            if self.ends.get(key) == due:
                self.remove(key)

    def get(self, key: Key) -> bytes | None:
        records = self.values.get(key.run)
        return records.get(key.name) if records else None

    def remove(self, key: Key | Counter) -> None:
        """Forget a record or a counter, if it is there."""
        kind = self.values if isinstance(key, Key) else self.counters
        of_run = kind.get(key.run, {})
        of_run.pop(key.name, None)
        if not of_run:
            kind.pop(key.run, None)
        self.ends.pop(key, None)

    def add(self, key: Key, amount: int, ttl: timedelta | None) -> int:
        """Count (S15)."""
        counters = self.counters.setdefault(key.run, {})
        counters[key.name] = counters.get(key.name, 0) + amount
        self.age(Counter(*key), ttl)
        return counters[key.name]

    def sweep(self, run: str, limit: int) -> bool:
        """Remove records and counters, then barriers, of a run."""
        keys: list[Key | Counter] = [Key(run, name) for name in self.values.get(run, ())]
        keys += [Counter(run, name) for name in self.counters.get(run, ())]
        for key in keys[:limit]:
            self.remove(key)
        if len(keys) > limit:
            return False
        for key in [key for key in self.barriers if key.run == run]:
            del self.barriers[key]
        return True

    def barrier(self, key: Key) -> Barrier | None:
        slots = self.barriers.get(key)
        if slots is None:
            return None
        return Barrier(slots.size, tuple(slots.arrived), slots.failed, slots.max_failed, slots.fast)

    def flag(self, scope: Flag) -> None:
        self.flags.append((self.clock.now(), scope))

    def flags_since(self, cursor: str | None) -> tuple[str, list[Flag]]:
        """Read flags after a cursor; the cursor counts every flag that ever was."""
        oldest = self.clock.now() - FLAGS_KEPT
        while self.flags and self.flags[0][0] < oldest:
            self.flags.pop(0)
            self.dropped_flags += 1
        if cursor is not None and not (type(cursor) is str and cursor.isdecimal()):
            raise UsageError(f"no cursor of flags: {cursor!r}")
        start = max(0, int(cursor or 0) - self.dropped_flags)
        return str(self.dropped_flags + len(self.flags)), [flag for _, flag in self.flags[start:]]

    def runs(self, before: str | None, limit: int) -> list[tuple[str, bytes]]:
        """Page through the runs that have a record `r` (S11)."""
        known = [run for run, records in self.values.items() if "r" in records]
        known.reverse()
        start = known.index(before) + 1 if before in known else 0
        return [(run, self.values[run]["r"]) for run in known[start : start + limit]]
