"""Port P on JetStream: op by op, the acknowledgement last, and many entries at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from motet.engine.ordered import OrderedSettler
from motet.ports import Entry, Reply, Settler
from motet_nats.gathering import together

__all__ = ["NatsSettler"]

TOGETHER = 64
"""Entries that are under way at once."""


class NatsSettler(OrderedSettler):
    """Settles entries side by side: they are independent (P6), and each waits for answers most of the time."""

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        gate = asyncio.Semaphore(TOGETHER)

        async def one(entry: Entry) -> Reply:
            async with gate:
                return await self.settle_one(entry)

        return await together([one(entry) for entry in entries])


_: type[Settler] = NatsSettler
