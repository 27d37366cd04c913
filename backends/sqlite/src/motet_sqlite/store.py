"""Port S on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from motet.message import Key
from motet.ports import Barrier, Store
from motet.program import Arrival, Arrive, Flag, Once, Open, Put
from motet_sqlite import records
from motet_sqlite.ledger import Ledger
from motet_sqlite.request import Kind, Step

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteStore"]


class SqliteStore:
    """Keeps the records of runs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def put_once(self, records: Sequence[Once]) -> list[bytes | None]:
        stored: list[bytes | None] = await self._desk.do(
            Step(lambda ledger: [ledger.put_once(record) for record in records], programs=(records,))
        )
        return stored

    async def put(self, records: Sequence[Put]) -> None:
        def put(ledger: Ledger) -> None:
            for record in records:
                ledger.put(record)

        await self._desk.do(Step(put))

    async def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        found: list[bytes | None] = await self._desk.look(
            lambda database: records.get(database, keys, self._desk.now())
        )
        return found

    async def drop(self, keys: Sequence[Key]) -> None:
        def drop(ledger: Ledger) -> None:
            for key in keys:
                ledger.drop(key)

        await self._desk.do(Step(drop))

    async def add(self, key: Key, amount: int, ttl: timedelta | None = None) -> int:
        total: int = await self._desk.do(
            Step(lambda ledger: records.add(ledger.database, key, amount, ttl, ledger.now), kind=Kind.DEED)
        )
        return total

    async def open(self, barriers: Sequence[Open]) -> None:
        def make(ledger: Ledger) -> None:
            for barrier in barriers:
                ledger.open(barrier)

        await self._desk.do(Step(make, programs=(barriers,)))

    async def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        arrival: Arrival | None = await self._desk.do(
            Step(lambda ledger: ledger.arrive(key, slot, failed), programs=((Arrive(key, slot, failed),),))
        )
        return arrival

    async def barriers(self, keys: Sequence[Key]) -> list[Barrier | None]:
        found: list[Barrier | None] = await self._desk.look(lambda database: records.barriers(database, keys))
        return found

    async def flag(self, scopes: Sequence[Flag]) -> None:
        def flag(ledger: Ledger) -> None:
            for scope in scopes:
                ledger.flag(scope)

        await self._desk.do(Step(flag))

    async def flags(self, since: str | None) -> tuple[str, list[Flag]]:
        found: tuple[str, list[Flag]] = await self._desk.look(
            lambda database: records.flags(database, since, self._desk.now())
        )
        return found

    async def names(self, run: str, prefix: str) -> list[str]:
        found: list[str] = await self._desk.look(
            lambda database: records.names(database, run, prefix, self._desk.now())
        )
        return found

    async def sweep(self, run: str, limit: int) -> bool:
        clean: bool = await self._desk.do(
            Step(lambda ledger: records.sweep(ledger.database, run, limit), kind=Kind.DEED)
        )
        return clean

    async def runs(self, before: str | None, limit: int) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = await self._desk.look(
            lambda database: records.runs(database, before, limit, self._desk.now())
        )
        return found


_: type[Store] = SqliteStore
