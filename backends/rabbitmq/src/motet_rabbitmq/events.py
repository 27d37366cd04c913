"""Port E on RabbitMQ: the last thousand are rows of the control shard; a notice wakes readers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import anyio

from motet.engine.wellformed import check_count
from motet.errors import UsageError
from motet.ports import Events
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.feeds import EVENT, Feeds
from motet_rabbitmq.machine import CONTROL
from motet_rabbitmq.store import cursor as number

__all__ = ["RabbitEvents"]


class RabbitEvents:
    """One client's view of the stream. A cursor counts every event that ever was."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking

    async def emit(self, events: Sequence[bytes]) -> None:
        self.asking.check()
        for event in events:
            if type(event) is not bytes:
                raise UsageError(f"an event is bytes, not {event!r:.200}")
        await self.asking.ask(CONTROL, Feeds.emit, list(events))

    async def read(self, cursor: str | None, limit: int, wait: timedelta) -> tuple[str, list[bytes]]:
        self.asking.check()
        check_count(limit, "limit", 1)
        last, found = await self.asking.ask(CONTROL, Feeds.events, number(cursor, "events"), limit)
        if found or not wait:
            return str(last), found
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        give_up = loop.time() + wait.total_seconds()

        def heard(_: bytes) -> None:
            event.set()

        try:
            await self.asking.listen(EVENT, heard)
            while True:
                event.clear()
                last, found = await self.asking.ask(CONTROL, Feeds.events, last, limit)
                left = give_up - loop.time()
                if found or left <= 0:
                    return str(last), found
                with anyio.move_on_after(left):
                    await event.wait()
        finally:
            self.asking.forget(EVENT, heard)


_: type[Events] = RabbitEvents
