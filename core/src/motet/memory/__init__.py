"""The reference backend: everything in one process's memory. What users test with, and the simulator's world.

`memory://` is private to whoever opens it; `memory://name` is shared by all that open the same name in one process.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import anyio

from motet.capabilities import Capabilities
from motet.engine.ordered import OrderedSettler
from motet.errors import BadBackend, NotSupported
from motet.memory.world import Slots, World
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Barrier, Clock, Delivery, Entry, Locks, QueueInfo, Reply, Settings, Settler
from motet.program import Arrival, Flag, Once, Open, Put

__all__ = ["MemoryBackend", "open"]

_worlds: dict[str, tuple[World, list[int]]] = {}


@asynccontextmanager
async def open(url: str, settings: Settings) -> AsyncGenerator[MemoryBackend]:
    """Open a memory backend.

    `?settle=ordered` carries settlements out one primitive at a time, as a broker without scripts would.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    if unknown := options.keys() - {"settle"} or parts.path.strip("/"):
        raise BadBackend(f"{url}: memory:// takes a name and ?settle=ordered, not {', '.join(unknown)}")
    ordered = options.get("settle") == ["ordered"]
    if not parts.netloc:
        yield MemoryBackend(World(settings.clock, settings.lease), ordered=ordered)
        return
    world, users = _worlds.setdefault(parts.netloc, (World(settings.clock, settings.lease), []))
    users.append(1)
    try:
        yield MemoryBackend(world, ordered=ordered)
    finally:
        users.pop()
        if not users:
            _worlds.pop(parts.netloc, None)


class MemoryBackend:
    """One client of a world; also its transport, store, timers, signals and settler."""

    def __init__(self, world: World, *, ordered: bool = False) -> None:
        self.world = world
        self.capabilities: Capabilities = Capabilities(name="memory", shared=False, atomic=not ordered, durable=False)
        self.transport = self
        self.store = self
        self.timers = self
        self.signals = self
        self.settler: Settler = OrderedSettler(self, self, self) if ordered else self

    @property
    def locks(self) -> Locks:
        raise NotSupported("locks", "memory")

    # Transport.

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        self.world.publish(parcels)

    async def receive(self, lanes: Sequence[Lane], limit: int, wait: timedelta) -> list[Delivery]:
        world = self.world
        taken = world.take(lanes, limit)
        give_up = world.clock.monotonic() + wait.total_seconds()
        while not taken and (left := give_up - world.clock.monotonic()) > 0:
            event = anyio.Event()
            world.receivers[event] = None
            try:
                await world.clock.wait(event, world.until_next(left))
            finally:
                world.receivers.pop(event, None)
            taken = world.take(lanes, limit)
        return taken

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        return self.world.extend(receipts)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if self.world.holds(delivery):
                self.world.forget(delivery)

    async def release(self, deliveries: Sequence[Delivery], delay: timedelta = timedelta()) -> None:
        # The last one first, so that the front of the lane is in the old order again.
        for delivery in reversed(deliveries):
            self.world.give_back(delivery, delay)

    async def strike(self, delivery: Delivery) -> int:
        letter = self.world.letters.get(delivery.id)
        if letter is None:
            return 0
        letter.strikes += 1
        return letter.strikes

    async def find(self, runs: Sequence[str]) -> list[str | None]:
        return [self.world.find(run) for run in runs]

    async def queues(self) -> list[QueueInfo]:
        self.world.turn()
        return self.world.queues()

    async def pause(self, queue: str, *, paused: bool = True) -> None:
        (self.world.paused.add if paused else self.world.paused.discard)(queue)
        self.world.wake_receivers()

    # Store.

    async def put_once(self, records: Sequence[Once]) -> list[bytes | None]:
        self.world.expire()
        for record in records:
            self.world.wake(record.key.run)
        return [self.world.put_once(record) for record in records]

    async def put(self, records: Sequence[Put]) -> None:
        for record in records:
            self.world.put(record)

    async def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        self.world.expire()
        return [self.world.get(key) for key in keys]

    async def drop(self, keys: Sequence[Key]) -> None:
        for key in keys:
            self.world.drop(key)

    async def open(self, barriers: Sequence[Open]) -> None:
        for barrier in barriers:
            self.world.barriers.setdefault(barrier.key, Slots(barrier))

    async def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        slots = self.world.barriers.get(key)
        return None if slots is None else slots.arrive(slot, failed)

    async def barriers(self, keys: Sequence[Key]) -> list[Barrier | None]:
        return [self.world.barrier(key) for key in keys]

    async def flag(self, scopes: Sequence[Flag]) -> None:
        self.world.flags.extend((self.world.clock.now(), scope) for scope in scopes)

    async def flags(self, since: str | None) -> tuple[str, list[Flag]]:
        return self.world.flags_since(since)

    async def names(self, run: str, prefix: str) -> list[str]:
        return sorted(name for name in self.world.records.get(run, ()) if name.startswith(prefix))

    async def sweep(self, run: str, limit: int) -> bool:
        return self.world.sweep(run, limit)

    async def runs(self, before: str | None, limit: int) -> list[tuple[str, bytes]]:
        known = [run for run, records in self.world.records.items() if "r" in records]
        known.reverse()
        start = known.index(before) + 1 if before in known else 0
        return [(run, self.world.records[run]["r"]) for run in known[start : start + limit]]

    # Timers.

    async def park(self, parcels: Sequence[Parcel]) -> None:
        self.world.publish(parcels)

    async def cancel(self, ids: Sequence[str]) -> list[bool]:
        parked = {letter.parcel.id: letter for _, _, letter in self.world.parked}
        removed = [name in parked for name in ids]
        gone = {id(parked[name]) for name in ids if name in parked}
        self.world.parked = [entry for entry in self.world.parked if id(entry[2]) not in gone]
        heapq.heapify(self.world.parked)
        for name in ids:
            if name in parked:
                del self.world.letters[name]
        return removed

    # Signals.

    @asynccontextmanager
    async def subscribe(self, run: str) -> AsyncGenerator[MemoryWakeups]:
        wakeups = MemoryWakeups(self.world.clock)
        self.world.waiting.setdefault(run, {})[wakeups] = None
        try:
            yield wakeups
        finally:
            listeners = self.world.waiting[run]
            listeners.pop(wakeups, None)
            if not listeners:
                del self.world.waiting[run]

    # Settler.

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        return self.world.settle_all(entries)


class MemoryWakeups:
    """A level: set by a decision, cleared by a wait."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.event: anyio.Event = anyio.Event()

    def set(self) -> None:
        self.event.set()

    async def wait(self, limit: timedelta) -> None:
        await self.clock.wait(self.event, limit.total_seconds())
        self.event = anyio.Event()
