"""Port T on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from motet.message import Parcel
from motet.options import Lane
from motet.ports import Admission, Delivery, QueueInfo, Settings, Transport
from motet_sqlite import messages
from motet_sqlite.admission import admit
from motet_sqlite.leases import Leases
from motet_sqlite.ledger import Ledger
from motet_sqlite.location import Location
from motet_sqlite.request import Kind, Receive, Step
from motet_sqlite.values import check_lanes

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteTransport"]


class SqliteTransport:
    """Moves parcels through the message table."""

    def __init__(self, desk: Desk, location: Location, settings: Settings) -> None:
        self._desk = desk
        self.leases = Leases(location, settings)

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        await self._desk.do(Step(lambda ledger: ledger.publish(parcels)))

    async def receive(
        self, lanes: Sequence[Lane], limit: int, wait: timedelta, *, paused: bool = False
    ) -> list[Delivery]:
        check_lanes(lanes)
        deliveries: list[Delivery] = await self._desk.receive(Receive(lanes, limit, wait, paused=paused))
        return deliveries

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        self._desk.check()
        return self.leases.extend(receipts)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        def ack(ledger: Ledger) -> None:
            for delivery in deliveries:
                ledger.forget(delivery)

        await self._desk.do(Step(ack, receipts=[delivery.receipt for delivery in deliveries]))

    async def release(self, deliveries: Sequence[Delivery], delay: timedelta = timedelta()) -> None:
        receipts = [delivery.receipt for delivery in deliveries]

        def release(ledger: Ledger) -> None:
            due = ledger.now + delay.total_seconds() if delay else None
            ledger.ready += messages.release(ledger.database, receipts, due)

        await self._desk.do(Step(release, kind=Kind.DEED, durable=False))

    async def strike(self, delivery: Delivery) -> int:
        count: int = await self._desk.do(
            Step(lambda ledger: messages.strike(ledger.database, delivery.receipt), kind=Kind.DEED)
        )
        return count

    async def find(self, runs: Sequence[str]) -> list[str | None]:
        found: list[str | None] = await self._desk.look(lambda database: [messages.find(database, run) for run in runs])
        return found

    async def queues(self) -> list[QueueInfo]:
        found: list[QueueInfo] = await self._desk.look(messages.queues)
        return found

    async def pause(self, queue: str, *, paused: bool = True) -> None:
        def pause(ledger: Ledger) -> None:
            messages.pause(ledger.database, queue, paused=paused)
            ledger.ready += not paused

        await self._desk.do(Step(pause, kind=Kind.DEED))

    async def move(self, source: str, target: str, limit: int) -> int:
        check_lanes([Lane(source, "", 0), Lane(target, "", 0)])
        if source == target:
            return 0

        def move(ledger: Ledger) -> int:
            moved = messages.move(ledger.database, source, target, limit)
            ledger.ready += moved
            return moved

        count: int = await self._desk.do(Step(move, kind=Kind.DEED))
        return count

    async def admit(self, admissions: Sequence[Admission]) -> list[str]:
        standing: list[str] = await self._desk.do(
            Step(lambda ledger: [admit(ledger, each) for each in admissions], kind=Kind.DEED, submits=True)
        )
        return standing


_: type[Transport] = SqliteTransport
