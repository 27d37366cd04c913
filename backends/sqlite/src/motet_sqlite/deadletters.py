"""Port X on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from motet.message import DeadLetter, Parcel
from motet.ports import DeadLetters, Filter
from motet_sqlite.database import Database, array
from motet_sqlite.ledger import Ledger
from motet_sqlite.request import Kind, Step
from motet_sqlite.values import micros

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteDeadLetters"]

PLACES_KEPT = 3600.0
"""Seconds for which the place of a letter that is gone is known, so that a page can go on after it (X3)."""
read_letter = msgspec.msgpack.Decoder(DeadLetter).decode


class SqliteDeadLetters:
    """Keeps dead letters in rows, by the time of death."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, as the op `Bury` does."""

        def bury(ledger: Ledger) -> None:
            for letter in letters:
                ledger.bury(letter)

        await self._desk.do(Step(bury))

    async def get(self, ids: Sequence[str]) -> list[DeadLetter | None]:
        def get(database: Database) -> list[DeadLetter | None]:
            sql = "SELECT id, content FROM {letter} WHERE id IN (SELECT value FROM json_each(?))"
            found = dict(database.rows(sql, array(ids)))
            return [read_letter(found[name]) if name in found else None for name in ids]

        read: list[DeadLetter | None] = await self._desk.look(get)
        return read

    async def page(self, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        def page(database: Database) -> list[DeadLetter]:
            chosen, values = _where(filter)
            at, seq = (2**62, 0) if after is None else _place(database, after)
            rows = database.rows(
                f"SELECT content FROM {{letter}} WHERE (at, seq) < (?, ?){chosen} ORDER BY at DESC, seq DESC LIMIT ?",  # noqa: S608
                at,
                seq,
                *values,
                max(0, limit),
            )
            return [read_letter(content) for (content,) in rows]

        found: list[DeadLetter] = await self._desk.look(page)
        return found

    async def replay(self, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        def replay(ledger: Ledger) -> list[bool]:
            answers: list[bool] = []
            for name, parcel in replays:
                gone = _remove(ledger, [name])
                if gone:
                    ledger.publish([parcel])
                answers.append(bool(gone))
            return answers

        sent: list[bool] = await self._desk.do(Step(replay, kind=Kind.DEED, submits=True))
        return sent

    async def remove(self, ids: Sequence[str]) -> list[bool]:
        gone: set[str] = await self._desk.do(Step(lambda ledger: _remove(ledger, ids), kind=Kind.DEED))
        return [name in gone for name in ids]

    async def purge(self, filter: Filter, limit: int) -> int:
        def purge(ledger: Ledger) -> int:
            chosen, values = _where(filter)
            sql = f"SELECT id FROM {{letter}} WHERE 1{chosen} ORDER BY at, seq LIMIT ?"  # noqa: S608
            return len(_remove(ledger, [name for (name,) in ledger.database.rows(sql, *values, max(0, limit))]))

        count: int = await self._desk.do(Step(purge, kind=Kind.DEED))
        return count


def _where(filter: Filter) -> tuple[str, list[object]]:
    """Return conditions, and their values."""
    given = (
        (" AND queue = ?", filter.queue),
        (" AND task = ?", filter.task),
        (" AND kind = ?", filter.kind),
        (" AND at >= ?", None if filter.since is None else micros(filter.since)),
        (" AND at < ?", None if filter.before is None else micros(filter.before)),
    )
    chosen = [(condition, value) for condition, value in given if value is not None]
    return "".join(condition for condition, _ in chosen), [value for _, value in chosen]


def _place(database: Database, name: str) -> tuple[int, int]:
    """Return where a letter is in the order, or was until lately. After one that nobody knows nothing comes."""
    rows = database.rows(
        "SELECT at, seq FROM {letter} WHERE id = ? UNION ALL SELECT at, seq FROM {former} WHERE id = ? LIMIT 1",
        name,
        name,
    )
    return rows[0] if rows else (-(2**62), 0)


def _remove(ledger: Ledger, ids: Sequence[str]) -> set[str]:
    """Forget letters but for their place, and say which there were."""
    database, listed = ledger.database, array(ids)
    database.change(
        "INSERT OR REPLACE INTO {former} (id, at, seq, expires)"
        " SELECT id, at, seq, ? FROM {letter} WHERE id IN (SELECT value FROM json_each(?))",
        ledger.now + PLACES_KEPT,
        listed,
    )
    sql = "DELETE FROM {letter} WHERE id IN (SELECT value FROM json_each(?)) RETURNING id"
    return {name for (name,) in database.rows(sql, listed)}


_: type[DeadLetters] = SqliteDeadLetters
