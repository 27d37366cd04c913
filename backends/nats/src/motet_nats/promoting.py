"""Bringing what is due soon into its lane in time: the server looks at its schedules four times a second.

Whoever parks a message brings it there when it is due. The server does so half a second later, for those who died.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

from motet.errors import MotetError
from motet_nats.client import Client
from motet_nats.errors import Mismatch
from motet_nats.streams import Streams
from motet_nats.wire import Letter, pack

__all__ = ["BACKSTOP", "Promoter", "short"]

SHORT = timedelta(seconds=60)
"""What is due later than this comes by the server alone, up to 0.3 seconds late."""
BACKSTOP = timedelta(seconds=0.5)
LATE = 0.2
"""Seconds after which we leave it to the server: it must not have begun."""
MOST = 10_000


def short(due: datetime, now: datetime) -> bool:
    """Say whether a message is brought by who parks it."""
    return due - now < SHORT


class Promoter:
    """The messages that a client has parked for a short time."""

    def __init__(self, client: Client, streams: Streams) -> None:
        self.client = client
        self.streams = streams
        self.timers: set[asyncio.Task[None]] = set()

    def promote(self, letter: Letter, parked: str, target: str, sequence: int, due: datetime) -> None:
        """Bring a message into its lane when it is due."""
        if len(self.timers) >= MOST:
            return
        task = asyncio.get_running_loop().create_task(self._promote(letter, parked, target, sequence, due))
        self.timers.add(task)
        task.add_done_callback(self.timers.discard)

    async def _promote(self, letter: Letter, parked: str, target: str, sequence: int, due: datetime) -> None:
        clock = self.client.settings.clock
        while (left := (due - clock.now()).total_seconds()) > 0:
            await clock.sleep(left)
        if left < -LATE:
            return
        within = f"{self.client.names.of_id(letter.id)}.>"
        # As the server does it: what was parked goes in the same write. A cancel, or its own, may have been first.
        headers = {"Nats-Scheduler": parked, "Nats-Schedule-Next": "purge"}
        with suppress(Mismatch, MotetError):
            await self.client.publish(target, pack(letter), expect=sequence, within=within, headers=headers, once=True)

    def close(self) -> None:
        """Leave the rest to the server."""
        for task in self.timers:
            task.cancel()
