"""Port C on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from motet.message import Parcel
from motet.ports import Schedule, Schedules
from motet_sqlite.database import Database, array
from motet_sqlite.ledger import Ledger
from motet_sqlite.request import Kind, Step
from motet_sqlite.values import blob, count, micros, moment, text

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteSchedules"]

COLUMNS = "SELECT name, due, spec, paused, version FROM {schedule}"
NAMED = f"{COLUMNS} WHERE name IN (SELECT value FROM json_each(?))"  # noqa: S608
FIRST = f"{COLUMNS} ORDER BY name LIMIT ?"
FOLLOWING = f"{COLUMNS} WHERE name > ? ORDER BY name LIMIT ?"
DUE = f"{COLUMNS} WHERE paused = 0 AND due IS NOT NULL AND due <= ? ORDER BY due, name LIMIT ?"


class SqliteSchedules:
    """Keeps schedules in rows that are moved on by compare-and-set."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def save(self, schedule: Schedule) -> Schedule | None:
        saved: Schedule | None = await self._desk.do(
            Step(lambda ledger: _save(ledger.database, schedule), kind=Kind.DEED)
        )
        return saved

    async def fire(self, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        def fire(ledger: Ledger) -> bool:
            moved = ledger.database.change(
                "UPDATE {schedule} SET due = ?, version = version + 1 WHERE name = ? AND due = ? AND paused = 0",
                _stored(following),
                name,
                micros(due),
            )
            if moved:
                ledger.publish(parcels)
            return bool(moved)

        fired: bool = await self._desk.do(Step(fire, kind=Kind.DEED, submits=True))
        return fired

    async def get(self, names: Sequence[str]) -> list[Schedule | None]:
        def get(database: Database) -> list[Schedule | None]:
            found = _read(database, NAMED, array(names))
            known = {schedule.name: schedule for schedule in found}
            return [known.get(name) for name in names]

        read: list[Schedule | None] = await self._desk.look(get)
        return read

    async def due(self, until: datetime, limit: int) -> list[Schedule]:
        found: list[Schedule] = await self._desk.look(lambda database: _read(database, DUE, micros(until), limit))
        return found

    async def page(self, after: str | None, limit: int) -> list[Schedule]:
        sql, values = (FIRST, (limit,)) if after is None else (FOLLOWING, (after, limit))
        found: list[Schedule] = await self._desk.look(lambda database: _read(database, sql, *values))
        return found

    async def remove(self, name: str) -> bool:
        removed: int = await self._desk.do(
            Step(lambda ledger: ledger.database.change("DELETE FROM {schedule} WHERE name = ?", name), kind=Kind.DEED)
        )
        return removed > 0


def _save(database: Database, schedule: Schedule) -> Schedule | None:
    name, due, spec = text(schedule.name), _stored(schedule.due), blob(schedule.spec)
    paused, version = bool(schedule.paused), count(schedule.version)
    if version:
        database.change(
            "UPDATE {schedule} SET due = ?, spec = ?, paused = ?, version = version + 1 WHERE name = ? AND version = ?",
            due,
            spec,
            paused,
            name,
            version,
        )
    else:
        database.change(
            "INSERT INTO {schedule} (name, due, spec, paused, version) VALUES (?, ?, ?, ?, 1)"
            " ON CONFLICT (name) DO NOTHING",
            name,
            due,
            spec,
            paused,
        )
    stored = _read(database, f"{COLUMNS} WHERE name = ?", name)
    return stored[0] if stored else None


def _read(database: Database, sql: str, *values: object) -> list[Schedule]:
    return [
        Schedule(name, None if due is None else moment(due), spec, bool(paused), version)
        for name, due, spec, paused, version in database.rows(sql, *values)
    ]


def _stored(due: datetime | None) -> int | None:
    return None if due is None else micros(due)


_: type[Schedules] = SqliteSchedules
