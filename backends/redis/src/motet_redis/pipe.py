"""One connection that any number of callers share: their commands go out as they come, and are answered in that order.

redis-py makes the connection and reads it; its own client would hold it for one caller at a time. What is saved is a
round trip for each caller but one, and whoever is cancelled leaves the connection as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError

from motet_redis.errors import BROKEN

__all__ = ["Pipe"]


class Pipe:
    """A connection in use. After the first failure it is broken for good, and all who wait are told."""

    def __init__(self, connection: Any) -> None:
        self.connection: Any = connection
        self.waiting: deque[asyncio.Future[Any]] = deque()
        self.broken: BaseException | None = None
        self.reader: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._read())

    async def call(self, *command: Any) -> Any:
        """Send a command, and return its answer.

        Raises:
            ResponseError: The server refused.
            ConnectionError: The connection broke; whether the command was done, nobody knows.
        """
        return await (await self.send(*command))

    async def send(self, *command: Any) -> asyncio.Future[Any]:
        """Send a command, and return the future of its answer; it may be left alone."""
        if self.broken is not None:
            raise Disconnected(str(self.broken)) from self.broken
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        packed = self.connection.pack_command(*command)
        # Both at once: nothing is awaited before the bytes are in the transport's buffer.
        self.waiting.append(future)
        try:
            await self.connection.send_packed_command(packed, check_health=False)
        except BROKEN as error:
            self.breaks(error)
        return future

    async def _read(self) -> None:
        connection, waiting = self.connection, self.waiting
        while True:
            try:
                answer: Any = await connection.read_response(disconnect_on_error=False)
            except ResponseError as refusal:
                answer = refusal
            except BROKEN as error:
                self.breaks(error)
                return
            if not waiting:
                self.breaks(Disconnected(f"an answer to nothing: {answer!r:.100}"))
                return
            future = waiting.popleft()
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def breaks(self, error: BaseException) -> None:
        """Tell all who wait; nobody can say what was done of what they asked."""
        if self.broken is not None:
            return
        self.broken = error
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_exception(Disconnected(str(error)))
                future.exception()  # whoever has gone away does not miss it

    async def close(self) -> None:
        """Hang up."""
        self.breaks(Disconnected("closed"))
        self.reader.cancel()
        with suppress(*BROKEN):
            await self.connection.disconnect(nowait=True)  # first of all: whoever closes may be cancelled himself
        await asyncio.wait((self.reader,))
