"""Port D on SQLite: a parked parcel is a row that time makes ready, by the wall clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from motet.message import Parcel
from motet.ports import Timers
from motet_sqlite import messages
from motet_sqlite.request import Kind, Step

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteTimers"]


class SqliteTimers:
    """Keeps parcels until they are due."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def park(self, parcels: Sequence[Parcel]) -> None:
        await self._desk.do(Step(lambda ledger: ledger.publish(parcels)))

    async def cancel(self, ids: Sequence[str]) -> list[bool]:
        gone: list[bool] = await self._desk.do(
            Step(lambda ledger: messages.cancel(ledger.database, ids), kind=Kind.DEED)
        )
        return gone


_: type[Timers] = SqliteTimers
