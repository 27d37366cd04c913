"""A shard's records of runs: values, counters and barriers."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from motet.message import Key
from motet.ports import Barrier
from motet.program import Arrival
from motet_rabbitmq.calls import call
from motet_rabbitmq.ops import WireOnce, WireOpen, WirePut
from motet_rabbitmq.state import State, Table

__all__ = ["Runs"]


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record. `born` orders runs by when they began."""

    value: bytes
    until: float | None
    born: int


class Counter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A counter."""

    sum: int
    until: float | None


class Slots(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A barrier: slots in the order in which they arrived, with the failures that each brought."""

    size: int
    max_failed: int
    fast: bool
    arrived: tuple[tuple[int, int], ...]
    until: None = None


class Runs:
    """What port S keeps of the runs of this shard."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.values: Table[Value] = Table(state, "r", Value, self._noted)
        self.counters: Table[Counter] = Table(state, "n", Counter)
        self.barriers: Table[Slots] = Table(state, "b", Slots)
        self.born: dict[str, int] = {}

    def _noted(self, run: str, name: str, before: Value | None, after: Value | None) -> None:
        if name != "r":
            return
        if after is None:
            self.born.pop(run, None)
        else:
            self.born[run] = after.born
            self.state.heard(after.born)

    def expired(self, kind: str, first: str, second: str) -> None:
        """Time has come for a record or a counter."""
        self.state.tables[kind].drop(first, second)

    def until(self, ttl: timedelta | None) -> float | None:
        return None if ttl is None else self.state.now + ttl.total_seconds()

    def write_once(self, op: WireOnce) -> bytes | None:
        """Write where nothing is; answer what was there. Whoever waits for the run is woken either way."""
        run, name = op.key
        if op.ends:
            self.state.wakes[run] = None
        stored = self.values.get(run, name)
        if stored is not None:
            return stored.value
        self.values.put(run, name, Value(op.value, self.until(op.ttl), self.state.serial()))
        return None

    def write(self, op: WirePut) -> None:
        """Write the value, with its own time to live (S13)."""
        before = self.values.get(*op.key)
        born = self.state.serial() if before is None else before.born
        self.values.put(*op.key, Value(op.value, self.until(op.ttl), born))

    def open_one(self, op: WireOpen) -> None:
        if self.barriers.get(*op.key) is None:
            self.barriers.put(*op.key, Slots(op.size, op.max_failed, op.fast, ()))

    @call()
    def put_once(self, records: list[WireOnce]) -> list[bytes | None]:
        return [self.write_once(record) for record in records]

    @call(grows=True)
    def put(self, records: list[WirePut]) -> None:
        for record in records:
            self.write(record)

    @call()
    def get(self, keys: list[Key]) -> list[bytes | None]:
        found = [self.values.get(*key) for key in keys]
        return [None if row is None else row.value for row in found]

    @call()
    def drop(self, keys: list[Key]) -> None:
        for key in keys:
            self.values.drop(*key)

    @call()
    def add(self, key: Key, amount: int, ttl: timedelta | None) -> int:
        before = self.counters.get(*key)
        after = amount + (0 if before is None else before.sum)
        self.counters.put(*key, Counter(after, self.until(ttl)))
        return after

    @call(grows=True)
    def open(self, barriers: list[WireOpen]) -> None:
        for each in barriers:
            self.open_one(each)

    @call()
    def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        slots = self.barriers.get(*key)
        if slots is None:
            return None
        if all(known != slot for known, _ in slots.arrived):
            slots = msgspec.structs.replace(slots, arrived=(*slots.arrived, (slot, failed)))
            self.barriers.put(*key, slots)
        total = sum(count for _, count in slots.arrived)
        return Arrival(slots.size, len(slots.arrived), total, slots.max_failed, slots.fast)

    @call()
    def read_barriers(self, keys: list[Key]) -> list[Barrier | None]:
        return [self._barrier(self.barriers.get(*key)) for key in keys]

    def _barrier(self, slots: Slots | None) -> Barrier | None:
        if slots is None:
            return None
        arrived, total = tuple(slot for slot, _ in slots.arrived), sum(count for _, count in slots.arrived)
        return Barrier(slots.size, arrived, total, slots.max_failed, slots.fast)

    @call()
    def names(self, run: str, prefix: str) -> list[str]:
        return sorted(name for name in self.values.of(run) if name.startswith(prefix))

    @call()
    def sweep(self, run: str, limit: int) -> bool:
        """Remove records and counters, then barriers, of a run (S8)."""
        found = [(table, name) for table in (self.values, self.counters) for name in table.of(run)]
        for table, name in found[:limit]:
            table.drop(run, name)
        if len(found) > limit:
            return False
        for name in list(self.barriers.of(run)):
            self.barriers.drop(run, name)
        return True

    @call()
    def runs(self, before: int | None, limit: int) -> list[tuple[int, str, bytes]]:
        """List the runs that have a record `r` and began before a moment, newest first, with their moments (S11)."""
        found = sorted(
            ((born, run) for run, born in self.born.items() if before is None or born < before), reverse=True
        )
        rows = ((born, run, self.values.get(run, "r")) for born, run in found[:limit])
        return [(born, run, row.value) for born, run, row in rows if row is not None]

    @call()
    def began(self, run: str) -> int | None:
        """Say when a run began, in the order of `runs`."""
        return self.born.get(run)
