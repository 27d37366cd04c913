"""Port E on JetStream: a stream that keeps the last events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from motet.engine.wellformed import check_count
from motet.errors import UsageError
from motet.ports import Events
from motet_nats.client import Client
from motet_nats.connection import Message
from motet_nats.errors import BROKEN
from motet_nats.gathering import together
from motet_nats.link import Link
from motet_nats.streams import Streams

__all__ = ["NatsEvents"]

TOGETHER = 250
BACKSTOP = 1.0
"""Seconds between two looks of who waits: what wakes may be lost with a connection."""


class NatsEvents:
    """One client's view of the stream. A cursor is the sequence of the last event that was read."""

    def __init__(self, client: Client, streams: Streams) -> None:
        self.client = client
        self.streams = streams

    async def emit(self, events: Sequence[bytes]) -> None:
        self.client.check()
        for event in events:
            if type(event) is not bytes:
                raise UsageError(f"an event is bytes, not {event!r:.200}")
        for first in range(0, len(events), TOGETHER):
            part = events[first : first + TOGETHER]
            await together([self.client.publish(self.client.names.happened, event, once=True) for event in part])

    async def read(self, cursor: str | None, limit: int, wait: timedelta) -> tuple[str, list[bytes]]:
        self.client.check()
        check_count(limit, "limit", 1)
        if cursor is not None and not (type(cursor) is str and cursor.isdecimal()):
            raise UsageError(f"no cursor of events: {cursor!r}")
        if cursor is None:
            start = int((await self.streams.info(self.client.names.events))["state"]["last_seq"])
        else:
            start = int(cursor)
        found = await self._after(start, limit)
        if found[1] or wait <= timedelta():
            return found
        return await self._wait(start, limit, wait.total_seconds())

    async def _after(self, start: int, limit: int) -> tuple[str, list[bytes]]:
        names = self.client.names
        stored = await self.streams.scan(names.events, names.happened, start + 1, limit)
        return str(stored[-1].sequence if stored else start), [each.data for each in stored]

    async def _wait(self, start: int, limit: int, seconds: float) -> tuple[str, list[bytes]]:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        give_up = loop.time() + seconds

        def hear(_: Message) -> None:
            event.set()

        async def listen(link: Link) -> tuple[Link, int]:
            return link, await link.listen(self.client.names.happened, hear)

        link, number = await self.client.keep_asking(listen)
        try:
            while True:
                event.clear()
                found = await self._after(start, limit)
                left = give_up - loop.time()
                if found[1] or left <= 0:
                    return found
                with suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), min(left, BACKSTOP))
                self.client.check()
        finally:
            with suppress(*BROKEN):
                await link.ignore(number)


_: type[Events] = NatsEvents
