"""The reference backend: everything in one process's memory. What users test with, and the simulator's world.

`memory://` is private to whoever opens it; `memory://name` is shared by all that open the same name, in the same
namespace, in one process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

from motet.capabilities import Capabilities
from motet.engine.ordered import OrderedSettler
from motet.errors import BadBackend, UsageError
from motet.memory.deadletters import MemoryDeadLetters
from motet.memory.events import MemoryEvents
from motet.memory.locks import MemoryLocks
from motet.memory.schedules import MemorySchedules
from motet.memory.settler import MemorySettler
from motet.memory.signals import MemorySignals
from motet.memory.store import MemoryStore
from motet.memory.timers import MemoryTimers
from motet.memory.transport import MemoryTransport
from motet.memory.workers import MemoryWorkers
from motet.memory.world import World
from motet.ports import Settings, Settler

__all__ = ["MemoryBackend", "open"]

_worlds: dict[tuple[str, str], tuple[World, list[int]]] = {}


@asynccontextmanager
async def open(url: str, settings: Settings) -> AsyncGenerator[MemoryBackend]:
    """Open a memory backend.

    `?settle=ordered` carries settlements out one primitive at a time, as a broker without scripts would.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    if unknown := options.keys() - {"settle"} or parts.path.strip("/"):
        raise BadBackend(f"{url}: memory:// takes a name and ?settle=ordered, not {', '.join(unknown)}")
    place = settings.namespace, parts.netloc
    world, users = World(settings.clock, settings.lease), list[int]()
    if parts.netloc:
        world, users = _worlds.setdefault(place, (world, users))
    users.append(1)
    backend = MemoryBackend(world, ordered=options.get("settle") == ["ordered"])
    try:
        yield backend
    finally:
        backend.close()
        users.pop()
        if not users:
            _worlds.pop(place, None)


class MemoryBackend:
    """One client of a world."""

    def __init__(self, world: World, *, ordered: bool = False) -> None:
        self.world = world
        self.capabilities: Capabilities = Capabilities(
            name="memory", shared=False, atomic=not ordered, durable=False, locks=True, events=True
        )
        self.transport: MemoryTransport = MemoryTransport(world)
        self.store: MemoryStore = MemoryStore(world)
        self.timers: MemoryTimers = MemoryTimers(world)
        self.schedules: MemorySchedules = MemorySchedules(world)
        self.deadletters: MemoryDeadLetters = MemoryDeadLetters(world)
        self.workers: MemoryWorkers = MemoryWorkers(world)
        self.signals: MemorySignals = MemorySignals(world)
        self.locks: MemoryLocks = MemoryLocks(world)
        self.events: MemoryEvents = MemoryEvents(world)
        direct = MemorySettler(world)
        self.settler: Settler = direct
        if ordered:
            self.settler = OrderedSettler(self.transport, self.store, self.timers, self.deadletters, self.locks)
        self._ports: tuple[Any, ...] = (
            *(self.transport, self.store, self.timers, self.schedules, self.deadletters),
            *(self.workers, self.signals, self.locks, self.events, direct),
        )

    def close(self) -> None:
        """Refuse every call from now on; other clients of the world are left as they are (B4)."""
        for port in self._ports:
            port.world = Closed()
        self.world.wake_all()


class Closed:
    """The world of a client that was closed. That its ports ask it for anything is the check: it costs no call time."""

    def __getattr__(self, name: str) -> NoReturn:
        raise UsageError("this memory backend is closed")
