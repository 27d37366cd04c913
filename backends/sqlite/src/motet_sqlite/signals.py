"""Port N on SQLite: decisions wake waiters here at once, and those of other processes by a datagram."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio

from motet.ports import Clock, Signals

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteSignals", "SqliteWakeups"]


class SqliteWakeups:
    """A level: set by a decision, cleared by a wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake the waiter."""
        self._event.set()

    async def wait(self, limit: timedelta) -> None:
        await self._clock.wait(self._event, limit.total_seconds())
        self._event = anyio.Event()


class SqliteSignals:
    """Wakes waiters of this process."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock
        self._waiting: dict[str, set[SqliteWakeups]] = {}
        self._listening = False

    def has(self, run: str) -> bool:
        """Say whether anybody waits for a run; from any thread."""
        return run in self._waiting

    def wake(self, run: str) -> None:
        """Wake those who wait for a run."""
        for wakeups in self._waiting.get(run, ()):
            wakeups.set()

    @asynccontextmanager
    async def subscribe(self, run: str) -> AsyncGenerator[SqliteWakeups, None]:
        self._desk.check()
        wakeups = SqliteWakeups(self._clock)
        self._waiting.setdefault(run, set()).add(wakeups)
        try:
            if not self._listening:
                await self._desk.listen()
                self._listening = True
            yield wakeups
        finally:
            listeners = self._waiting[run]
            listeners.discard(wakeups)
            if not listeners:
                del self._waiting[run]


_: type[Signals] = SqliteSignals
