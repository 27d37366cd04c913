"""Which queues are paused: kept by the control shard, told to everybody at once."""

from __future__ import annotations

import asyncio

import anyio

from motet_rabbitmq.asking import Asking
from motet_rabbitmq.machine import CONTROL
from motet_rabbitmq.roll import PAUSES, Roll, read_names

__all__ = ["Pauses"]

HEARD = 1.0
"""Seconds that a change has for coming back to whoever made it."""


class Pauses:
    """What this client knows of paused queues. `changed` are set at every change."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.known: frozenset[str] = frozenset()
        self.fresh = False
        self.changed: set[asyncio.Event] = set()

    async def ready(self) -> None:
        """Know what is paused now, and hear of every change from now on."""
        if not self.fresh:
            await self.asking.listen(PAUSES, self._heard)
            self.fresh = True
            self.known = frozenset(await self.asking.ask(CONTROL, Roll.pauses))

    def _heard(self, body: bytes) -> None:
        if body:
            self.known = frozenset(read_names(body))
        else:
            self.fresh = False  # there was a gap
        for event in self.changed:
            event.set()

    async def pause(self, queue: str, paused: bool) -> None:
        """Pause or resume, and return when it has come round: then others have heard of it too."""
        await self.ready()
        event = asyncio.Event()
        self.changed.add(event)
        try:
            await self.asking.ask(CONTROL, Roll.pause, queue, paused)
            with anyio.move_on_after(HEARD) as scope:
                await event.wait()
            self.fresh = self.fresh and not scope.cancelled_caught
        finally:
            self.changed.discard(event)
