"""Port T in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import anyio

from motet.engine.wellformed import check_count, check_each, check_parcels, check_text
from motet.errors import UsageError
from motet.memory.world import World
from motet.message import Parcel
from motet.options import Lane
from motet.ports import Admission, Delivery, QueueInfo, Transport

__all__ = ["MemoryTransport"]


class MemoryTransport:
    """One client's transport."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        letters = self.world.letters
        check_parcels(parcels)
        letters.publish(parcels)

    async def receive(
        self, lanes: Sequence[Lane], limit: int, wait: timedelta, *, paused: bool = False
    ) -> list[Delivery]:
        letters = self.world.letters
        check_count(limit, "limit")
        taken = letters.take(lanes, limit, paused=paused)
        clock = letters.clock
        give_up = clock.monotonic() + wait.total_seconds()
        while not taken and (left := give_up - clock.monotonic()) > 0:
            event = anyio.Event()
            letters.receivers[event] = None
            try:
                await clock.wait(event, letters.until_next(left))
            finally:
                letters.receivers.pop(event, None)
            # Asked of the client again: it may have been closed meanwhile (B4).
            taken = self.world.letters.take(lanes, limit, paused=paused)
        return taken

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        return self.world.letters.extend(receipts)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        letters = self.world.letters
        check_each(deliveries, Delivery)
        for delivery in deliveries:
            if letters.holds(delivery):
                letters.forget(delivery)

    async def release(self, deliveries: Sequence[Delivery], delay: timedelta = timedelta()) -> None:
        letters = self.world.letters
        check_each(deliveries, Delivery)
        # The last one first, so that the front of the lane is in the old order again.
        for delivery in reversed(deliveries):
            if letters.holds(delivery):
                letters.give_back(delivery, delay)

    async def strike(self, delivery: Delivery) -> int:
        letters = self.world.letters
        check_each((delivery,), Delivery)
        if not letters.holds(delivery):
            return 0
        letter = letters.held[delivery.receipt]
        letter.strikes += 1
        return letter.strikes

    async def find(self, runs: Sequence[str]) -> list[str | None]:
        letters = self.world.letters
        check_text(*runs)
        return [letters.find(run) for run in runs]

    async def queues(self) -> list[QueueInfo]:
        letters = self.world.letters
        letters.turn()
        return letters.queues()

    async def pause(self, queue: str, *, paused: bool = True) -> None:
        letters = self.world.letters
        check_text(queue)
        (letters.paused.add if paused else letters.paused.discard)(queue)
        letters.wake_receivers()

    async def move(self, source: str, target: str, limit: int) -> int:
        letters = self.world.letters
        check_text(source, target)
        check_count(limit, "limit")
        if source == target:
            raise UsageError(f"queue {source} cannot be moved to itself")
        return letters.move(source, target, limit)

    async def admit(self, admissions: Sequence[Admission]) -> list[str]:
        world = self.world
        check_each(admissions, Admission)
        check_parcels(admission.parcel for admission in admissions)
        return [world.admit(admission) for admission in admissions]


_: type[Transport] = MemoryTransport
