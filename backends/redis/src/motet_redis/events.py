"""Port E on Redis: a stream of the last events. A cursor is the id of the last one that was read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError

from motet.engine.wellformed import check_count
from motet.errors import UsageError
from motet.ports import Events
from motet_redis.client import Client
from motet_redis.errors import BROKEN
from motet_redis.pipe import Pipe
from motet_redis.scripts import Script
from motet_redis.wire import encode, raw

__all__ = ["RedisEvents"]

EVENTS = Script.of("events")
CURSOR = re.compile(r"\d+-\d+")
ASK = 5.0
"""Seconds after which the server answers for lack of events: a connection that is silent for longer is dead."""
CHUNK = 250


class RedisEvents:
    """One client's view of the stream."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def emit(self, events: Sequence[bytes]) -> None:
        self._client.check()
        for event in events:
            if type(event) is not bytes:
                raise UsageError(f"an event is bytes, not {event!r:.200}")
        for first in range(0, len(events), CHUNK):
            await self._client.call(EVENTS, "emit", encode([raw(event) for event in events[first : first + CHUNK]]))

    async def read(self, cursor: str | None, limit: int, wait: timedelta) -> tuple[str, list[bytes]]:
        self._client.check()
        check_count(limit, "limit", 1)
        if cursor is not None and not (type(cursor) is str and CURSOR.fullmatch(cursor)):
            raise UsageError(f"no cursor of events: {cursor!r}")
        if cursor is None:
            last: bytes = await self._client.call(EVENTS, "last")
            cursor = last.decode()
        loop = asyncio.get_running_loop()
        give_up = loop.time() + wait.total_seconds()
        pipe: Pipe | None = None
        try:
            while True:
                found: list[Any] = await self._client.call(EVENTS, "read", cursor, limit)
                if found:
                    return found[-1][0].decode(), [fields[1] for _, fields in found]
                left = give_up - loop.time()
                if left <= 0:
                    return cursor, []
                pipe = await self._wait(pipe, cursor, min(left, ASK))
        finally:
            if pipe is not None:
                await self._client.leave(pipe)

    async def _wait(self, pipe: Pipe | None, cursor: str, seconds: float) -> Pipe | None:
        """Return when there is an event after a cursor, or soon after so many seconds; with the connection used."""
        key = f"{self._client.tag}:events"
        try:
            if pipe is None or pipe.broken is not None:
                if pipe is not None:
                    await self._client.leave(pipe)
                pipe = await self._client.own()
            async with asyncio.timeout(seconds + self._client.timeout):
                milliseconds = max(1, round(seconds * 1000))
                await pipe.call("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS", key, cursor)
        except (RedisError, *BROKEN) as error:
            if pipe is not None:
                pipe.breaks(error)
            await asyncio.sleep(min(seconds, 0.1))
        return pipe


_: type[Events] = RedisEvents
