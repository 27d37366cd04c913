"""All ports on one file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from motet.capabilities import Capabilities
from motet.ports import Backend, Settings
from motet_sqlite.deadletters import SqliteDeadLetters
from motet_sqlite.desk import Desk
from motet_sqlite.events import SqliteEvents
from motet_sqlite.location import Location, locate
from motet_sqlite.locks import SqliteLocks
from motet_sqlite.schedules import SqliteSchedules
from motet_sqlite.settler import SqliteSettler
from motet_sqlite.store import SqliteStore
from motet_sqlite.timers import SqliteTimers
from motet_sqlite.transport import SqliteTransport
from motet_sqlite.workers import SqliteWorkers

__all__ = ["SqliteBackend", "open"]

_of_parents: list[SqliteBackend] = []


@asynccontextmanager
async def open(url: str, settings: Settings) -> AsyncGenerator[SqliteBackend, None]:  # noqa: A001 - its name in every backend
    """Open `sqlite:///relative.db` or `sqlite:////absolute.db`, with `?synchronous=normal|full|off` (full).

    Any number of processes on one machine may have it open. Namespaces that share a file have tables of their own.

    Raises:
        BadBackend: The URL names no database file.
        Rejected: The file cannot be ours: rights, directory, file system, another program's, or a newer release's.
        Unavailable: Somebody else keeps it locked.
    """
    backend = SqliteBackend(locate(url), settings)
    await backend.desk.start()
    try:
        yield backend
    finally:
        with anyio.CancelScope(shield=True):
            await backend.close()


class SqliteBackend:
    """One client of a database file."""

    def __init__(self, location: Location, settings: Settings) -> None:
        self.desk = Desk(location, settings)
        self.capabilities = Capabilities(
            name="sqlite", shared=True, atomic=True, lease=True, locks=True, events=True, durable=True
        )
        self.transport = SqliteTransport(self.desk, location, settings)
        self.store = SqliteStore(self.desk)
        self.timers = SqliteTimers(self.desk)
        self.signals = self.desk.signals
        self.settler = SqliteSettler(self.desk)
        self.schedules = SqliteSchedules(self.desk)
        self.deadletters = SqliteDeadLetters(self.desk)
        self.workers = SqliteWorkers(self.desk)
        self.locks = SqliteLocks(self.desk)
        self.events = SqliteEvents(self.desk, settings.clock)

    async def close(self) -> None:
        """Close both connections, or, in a forked child, neither: SQLite would take the parent's locks away."""
        if self.desk.forked():
            _of_parents.append(self)
            return
        self.transport.leases.close()
        await self.desk.close()


_: type[Backend] = SqliteBackend
