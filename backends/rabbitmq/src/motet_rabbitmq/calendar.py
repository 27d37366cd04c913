"""The control shard's schedules: each due time is fired once, in one step with moving the schedule on."""

from __future__ import annotations

from datetime import datetime

import msgspec

from motet.ports import Schedule
from motet_rabbitmq.calls import call
from motet_rabbitmq.letters import Letters
from motet_rabbitmq.ops import WireParcel
from motet_rabbitmq.state import State, Table

__all__ = ["Calendar", "Entry"]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A schedule as it is kept; time alone does nothing to it (C2)."""

    name: str
    due: datetime | None
    spec: bytes
    paused: bool
    version: int
    until: None = None

    @classmethod
    def of(cls, schedule: Schedule) -> Entry:
        return cls(schedule.name, schedule.due, schedule.spec, schedule.paused, schedule.version)

    @property
    def port(self) -> Schedule:
        return Schedule(self.name, self.due, self.spec, self.paused, self.version)


class Calendar:
    """What port C keeps."""

    def __init__(self, state: State, letters: Letters) -> None:
        self.letters = letters
        self.rows: Table[Entry] = Table(state, "s", Entry)

    @call(grows=True)
    def save(self, given: Entry) -> Entry | None:
        stored = self.rows.get(given.name)
        if (0 if stored is None else stored.version) == given.version:
            stored = msgspec.structs.replace(given, version=given.version + 1)
            self.rows.put(given.name, "", stored)
        return stored

    @call()
    def fire(self, name: str, due: datetime, following: datetime | None, parcels: list[WireParcel]) -> bool:
        stored = self.rows.get(name)
        if stored is None or stored.paused or stored.due != due:
            return False
        for parcel in parcels:
            self.letters.add(parcel)
        self.rows.put(name, "", msgspec.structs.replace(stored, due=following, version=stored.version + 1))
        return True

    @call()
    def get(self, names: list[str]) -> list[Entry | None]:
        return [self.rows.get(name) for name in names]

    @call()
    def due(self, until: datetime, limit: int) -> list[Entry]:
        rows = (rows[""] for rows in self.rows.rows.values())
        found = sorted((row.due, row.name) for row in rows if row.due and row.due <= until and not row.paused)
        kept = (self.rows.get(name) for _, name in found[:limit])
        return [row for row in kept if row is not None]

    @call()
    def page(self, after: str | None, limit: int) -> list[Entry]:
        names = sorted(name for name in self.rows.rows if after is None or name > after)
        return [self.rows.rows[name][""] for name in names[:limit]]

    @call()
    def remove(self, name: str) -> bool:
        return self.rows.drop(name)
