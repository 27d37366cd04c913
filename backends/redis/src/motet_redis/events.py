"""Port E on Redis: a stream of the last events. A cursor is the id of the last one that was read."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError

from motet.engine.wellformed import check_count
from motet.errors import MotetError, Unavailable, UsageError
from motet.ports import Events
from motet_redis.client import Client
from motet_redis.errors import BROKEN, translate
from motet_redis.pipe import Pipe
from motet_redis.scripts import Script
from motet_redis.wire import encode, raw

__all__ = ["RedisEvents"]

EVENTS = Script.of("repeats", "events")
CURSOR = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)
ASK = 3.0
"""Seconds after which the server answers for lack of events: a connection that is silent for longer is dead."""
PAUSE = 0.1
"""Seconds before the next attempt, after a connection has broken."""
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
            part = encode([raw(event) for event in events[first : first + CHUNK]])
            await self._client.call(EVENTS, "emit", part, secrets.token_hex(8))

    async def read(self, cursor: str | None, limit: int, wait: timedelta) -> tuple[str, list[bytes]]:
        """Read what came after a cursor, and the cursor after that.

        Raises:
            UsageError: The cursor is not one of ours.
            Unavailable: The server was away, and still is when the wait is over.
        """
        self._client.check()
        check_count(limit, "limit", 1)
        if cursor is not None and not (type(cursor) is str and CURSOR.fullmatch(cursor)):
            raise UsageError(f"no cursor of events: {cursor!r}")
        give_up = asyncio.get_running_loop().time() + wait.total_seconds()
        if cursor is None:
            last: bytes = await self._client.call(EVENTS, "last")
            cursor = last.decode()
        found = await self._client.call(EVENTS, "read", cursor, limit) or await self._watch(cursor, limit, give_up)
        return (found[-1][0].decode() if found else cursor), [fields[1] for _, fields in found]

    async def _watch(self, cursor: str, limit: int, give_up: float) -> list[Any]:
        """Wait for events on a connection of its own, and on another one when that breaks."""
        loop = asyncio.get_running_loop()
        pipe: Pipe | None = None
        failure: MotetError | None = None
        try:
            while (now := loop.time()) < give_up:
                self._client.check()
                try:
                    async with asyncio.timeout_at(min(give_up, now + ASK + self._client.timeout)):
                        pipe = pipe or await self._client.own()
                        found = await self._ask(pipe, cursor, limit, min(give_up - now, ASK))
                except (RedisError, *BROKEN) as error:
                    if loop.time() >= give_up:
                        break
                    failure = translate(error, self._client.location.name)
                    if not isinstance(failure, Unavailable):
                        raise failure from error
                    if pipe is not None:
                        broken, pipe = pipe, None
                        await self._client.leave(broken)
                    await asyncio.sleep(min(PAUSE, give_up - loop.time()))
                else:
                    failure = None
                    if found:
                        return found
        finally:
            if pipe is not None:
                await self._client.leave(pipe)
        if failure is not None:
            raise failure
        return []

    async def _ask(self, pipe: Pipe, cursor: str, limit: int, seconds: float) -> list[Any]:
        key, block = f"{self._client.tag}:events", max(1, round(seconds * 1000))
        answer = await pipe.call("XREAD", "COUNT", limit, "BLOCK", block, "STREAMS", key, cursor)
        found: list[Any] = answer[0][1] if answer else []
        return found


_: type[Events] = RedisEvents
