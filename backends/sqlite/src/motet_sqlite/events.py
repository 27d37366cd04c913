"""Port E on SQLite: the last events in rows, and readers that are woken as waiters for runs are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from motet.errors import UsageError
from motet.ports import Clock, Events
from motet_sqlite.database import Database
from motet_sqlite.ledger import Ledger
from motet_sqlite.receivers import POLL
from motet_sqlite.request import Kind, Step
from motet_sqlite.values import blob

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteEvents"]

KEPT = 1000
STREAM = "\x1e"
"""What waits for events waits for a run of this name, which no run can have."""


class SqliteEvents:
    """Keeps the last thousand events."""

    def __init__(self, desk: Desk, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    async def emit(self, events: Sequence[bytes]) -> None:
        def emit(ledger: Ledger) -> None:
            database = ledger.database
            database.insert("INSERT INTO {event} (content)", "", [(blob(event),) for event in events])
            # The latest row always stays, so that numbers go on from it and none is given twice.
            database.change("DELETE FROM {event} WHERE seq <= (SELECT max(seq) FROM {event}) - ?", KEPT)
            ledger.decided.add(STREAM)

        await self._desk.do(Step(emit, kind=Kind.DEED, durable=False))

    async def read(self, cursor: str | None, limit: int, wait: timedelta) -> tuple[str, list[bytes]]:
        """Read what came after a cursor, and the cursor after that.

        Raises:
            UsageError: The cursor is not one of ours.
        """
        give_up = self._clock.monotonic() + wait.total_seconds()
        async with self._desk.signals.subscribe(STREAM) as wakeups:
            place = await self._now() if cursor is None else _number(cursor)
            look = partial(_after, place, limit)
            while True:
                rows: list[tuple[int, bytes]] = await self._desk.look(look)
                left = give_up - self._clock.monotonic()
                if rows or limit <= 0 or left <= 0:
                    return str(rows[-1][0] if rows else place), [content for _, content in rows]
                await wakeups.wait(timedelta(seconds=min(left, POLL)))

    async def _now(self) -> int:
        def last(database: Database) -> int:
            return int(database.rows("SELECT coalesce(max(seq), 0) FROM {event}")[0][0])

        number: int = await self._desk.look(last)
        return number


def _after(place: int, limit: int, database: Database) -> list[tuple[int, bytes]]:
    sql = "SELECT seq, content FROM {event} WHERE seq > ? ORDER BY seq LIMIT ?"
    return database.rows(sql, place, max(0, limit))


def _number(cursor: str) -> int:
    try:
        return int(cursor)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{cursor!r} is no cursor: give back what `read` returned, or None") from error


_: type[Events] = SqliteEvents
