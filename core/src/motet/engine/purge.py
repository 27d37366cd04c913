"""Emptying a queue without losing anybody who waits: each message's node is cancelled, not forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import attrs
import msgspec

from motet.engine.control import Control
from motet.engine.deadletters import bury
from motet.errors import DecodeError, StateLost
from motet.message import Message, Order, read_message
from motet.options import Lane, Priority, Size
from motet.outcome import ErrorInfo, Kind
from motet.ports import Backend, Clock, Delivery, Entry
from motet.program import Op

__all__ = ["Purge"]

BATCH = 100


@attrs.frozen
class Purge:
    """Takes what is ready in a queue, paused or not, and settles it as cancelled. What is held or parked stays."""

    backend: Backend
    control: Control
    clock: Clock

    async def queue(self, queue: str) -> int:
        """Empty a queue; return how many messages were settled.

        A chain or group that a message belongs to goes on as after any cancelled member, so nothing waits for ever.
        """
        lanes = [Lane(queue, size.value, int(priority)) for priority in Priority for size in Size]
        count = 0
        while taken := await self.backend.transport.receive(lanes, BATCH, timedelta(), paused=True):
            await self.settle([await self.entry(delivery, queue) for delivery in taken])
            count += len(taken)
        return count

    async def settle(self, entries: list[Entry]) -> None:
        replies = await self.backend.settler.settle(entries)
        # Somebody else decided the node first: only the message is left to forget.
        late = [Entry((), each.delivery) for each, reply in zip(entries, replies, strict=True) if reply.conflicts]
        if late:
            await self.backend.settler.settle(late)

    async def entry(self, delivery: Delivery, queue: str) -> Entry:
        """Cancel what one message is about."""
        try:
            message = read_message(delivery.body)
        except DecodeError as error:
            return Entry(await self.unreadable(delivery, error), delivery)
        order: Message = msgspec.structs.replace(
            message, order=Order.CANCEL, detail=f"purged from queue {queue}", value=None, source=None
        )
        try:
            return Entry(await self.control.program(order, delivery), delivery)
        except StateLost:
            return Entry((), delivery)

    async def unreadable(self, delivery: Delivery, error: DecodeError) -> Sequence[Op]:
        info = ErrorInfo(kind=Kind.MALFORMED, message=str(error), run=delivery.id.partition(":")[0])
        return [bury(delivery, info, self.clock.now()), *await self.control.failed(delivery.id, info)]
