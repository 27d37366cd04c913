"""Port N on RabbitMQ: whoever waits for a run is told of all that end in its shard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio

from motet.ports import Signals
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.names import ended

__all__ = ["RabbitSignals", "RabbitWakeups"]


class RabbitSignals:
    """One client's signals."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking

    @asynccontextmanager
    async def subscribe(self, run: str) -> AsyncGenerator[RabbitWakeups, None]:
        wakeups = RabbitWakeups(self.asking)
        try:
            await self.asking.listen(ended(run), wakeups.heard)
            yield wakeups
        finally:
            self.asking.forget(ended(run), wakeups.heard)


class RabbitWakeups:
    """A level: set by a decision, cleared by a wait."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.event = asyncio.Event()

    def heard(self, _: bytes) -> None:
        """Note that something was decided, or may have been."""
        self.event.set()

    async def wait(self, limit: timedelta) -> None:
        self.asking.check()
        with anyio.move_on_after(limit.total_seconds()):
            await self.event.wait()
        self.event.clear()


_: type[Signals] = RabbitSignals
