"""Port N in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio

from motet.memory.world import World
from motet.ports import Signals

__all__ = ["MemorySignals", "MemoryWakeups"]


class MemorySignals:
    """One client's signals."""

    def __init__(self, world: World) -> None:
        self.world = world

    @asynccontextmanager
    async def subscribe(self, run: str) -> AsyncGenerator[MemoryWakeups]:
        waiting = self.world.waiting
        wakeups = MemoryWakeups(self)
        waiting.setdefault(run, {})[wakeups] = None
        try:
            yield wakeups
        finally:
            listeners = waiting[run]
            listeners.pop(wakeups, None)
            if not listeners:
                del waiting[run]


class MemoryWakeups:
    """A level: set by a decision, cleared by a wait."""

    def __init__(self, signals: MemorySignals) -> None:
        self.signals = signals
        self.event: anyio.Event = anyio.Event()

    def set(self) -> None:
        self.event.set()

    async def wait(self, limit: timedelta) -> None:
        await self.signals.world.clock.wait(self.event, limit.total_seconds())
        self.event = anyio.Event()


_: type[Signals] = MemorySignals
