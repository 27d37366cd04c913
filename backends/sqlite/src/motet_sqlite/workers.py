"""Port W on SQLite."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from motet.ports import Present, Workers
from motet_sqlite.database import Database
from motet_sqlite.ledger import Ledger
from motet_sqlite.request import Kind, Step
from motet_sqlite.uptime import boot, uptime
from motet_sqlite.values import blob, text

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteWorkers", "forget"]


class SqliteWorkers:
    """Keeps the roll in rows with a lease; none of it is worth an fsync."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def beat(self, worker: Present, ttl: timedelta) -> None:
        def beat(ledger: Ledger) -> None:
            ledger.database.change(
                "INSERT INTO {worker} (id, about, boot, lease) VALUES (?, ?, ?, ?) ON CONFLICT (id)"
                " DO UPDATE SET about = excluded.about, boot = excluded.boot, lease = excluded.lease",
                text(worker.id),
                blob(worker.about),
                boot(),
                uptime() + ttl.total_seconds(),
            )

        await self._desk.do(Step(beat, kind=Kind.DEED, durable=False))

    async def leave(self, id: str) -> None:
        def leave(ledger: Ledger) -> None:
            ledger.database.change("DELETE FROM {worker} WHERE id = ?", id)

        await self._desk.do(Step(leave, kind=Kind.DEED, durable=False))

    async def present(self) -> list[Present]:
        found: list[Present] = await self._desk.look(_present)
        return found


def _present(database: Database) -> list[Present]:
    rows = database.rows("SELECT id, about FROM {worker} WHERE boot = ? AND lease > ? ORDER BY id", boot(), uptime())
    return [Present(name, about) for name, about in rows]


def forget(database: Database, wall: float, limit: int) -> int:
    """Remove a slice of those that have been silent for too long, whatever the time on the wall."""
    del wall
    return database.change(
        "DELETE FROM {worker} WHERE id IN (SELECT id FROM {worker} WHERE boot <> ? OR lease <= ? LIMIT ?)",
        boot(),
        uptime(),
        limit,
    )


_: type[Workers] = SqliteWorkers
