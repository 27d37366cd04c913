"""One connection that any number of callers share: their commands go out as they come, and are answered in that order.

redis-py makes the connection: addresses, TLS, passwords, databases. Then its stream is taken off the transport, and
hiredis reads from there. Its own client takes 63 us of CPU for a call and holds a connection for each caller; this
takes 28, or 25 on uvloop, and whoever is cancelled leaves the connection as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, ResponseError

from motet_redis.errors import BROKEN

__all__ = ["Pipe"]

packer: Any = hiredis  # its stub does not say what `pack_command` returns
WAIT = object()
"""What hiredis answers when there is no whole reply yet."""


class Pipe(asyncio.Protocol):
    """A connection in use. After the first failure it is broken for good, and all who wait are told.

    With `patience` it fails when an answer takes longer than so many seconds.
    """

    def __init__(self, connection: Any, *, patience: float | None = None) -> None:
        self.connection: Any = connection
        self.patience = patience
        self.waiting: deque[tuple[asyncio.Future[Any], float]] = deque()  # and since when
        self.unsent: list[bytes] = []
        self.watch: asyncio.TimerHandle | None = None
        self.broken: BaseException | None = None
        self.replies: hiredis.Reader = hiredis.Reader(notEnoughData=WAIT)
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.transport: Any = connection._writer.transport  # noqa: SLF001 - what all its releases from 5 to 8 have
        self.transport.set_protocol(self)
        if self.transport.is_closing():
            self.breaks(Disconnected("closed by the server"))

    async def call(self, *command: Any) -> Any:
        """Send a command, and return its answer.

        Raises:
            ResponseError: The server refused.
            ConnectionError: The connection broke; whether the command was done, nobody knows.
        """
        return await self.send(*command)

    def send(self, *command: Any) -> asyncio.Future[Any]:
        """Send a command, and return the future of its answer; it may be left alone."""
        if self.broken is not None:
            raise Disconnected(str(self.broken)) from self.broken
        future, packed = self.loop.create_future(), packer.pack_command(command)
        if not self.waiting:
            self.transport.write(packed)
        else:
            # There are others in this turn of the loop: what they say goes out by one system call.
            if not self.unsent:
                self.loop.call_soon(self.flush)
            self.unsent.append(packed)
        self.waiting.append((future, self.loop.time()))
        if self.watch is None and self.patience is not None:
            self.watch = self.loop.call_later(self.patience, self.look)
        return future

    def flush(self) -> None:
        """Send what was said in this turn of the loop."""
        unsent, self.unsent = self.unsent, []
        if self.broken is None:
            self.transport.write(b"".join(unsent))

    def look(self) -> None:
        """See whether the one who waits longest has waited too long. One timer for all calls."""
        self.watch = None
        if not self.waiting or self.patience is None:
            return
        left = self.waiting[0][1] + self.patience - self.loop.time()
        if left > 0:
            self.watch = self.loop.call_later(left, self.look)
        else:  # half open, or stuck: nobody should wait behind it
            self.breaks(Disconnected(f"no answer within {self.patience:g} s"))

    def data_received(self, data: bytes) -> None:
        """Hand answers to those who wait for them."""
        replies, waiting = self.replies, self.waiting
        replies.feed(data)
        try:
            while (answer := replies.gets()) is not WAIT:
                future, since = waiting.popleft()
                if isinstance(answer, hiredis.ReplyError):
                    self.refused(future, since, str(answer))
                elif not future.done():
                    future.set_result(answer)
        except (hiredis.HiredisError, IndexError) as error:
            self.breaks(Disconnected(f"no answer that can be read: {error}"))

    def refused(self, future: asyncio.Future[Any], since: float, said: str) -> None:
        """Tell who waits that the server refused; one that loads its data is as good as away."""
        if said.startswith("LOADING"):
            self.waiting.appendleft((future, since))
            self.breaks(Disconnected(said))
        elif not future.done():
            future.set_exception(NoScriptError(said) if said.startswith("NOSCRIPT") else ResponseError(said))
            future.exception()  # who has gone away does not miss it

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the other side has gone."""
        self.breaks(exc or Disconnected("closed by the server"))

    def breaks(self, error: BaseException) -> None:
        """Tell all who wait; nobody can say what was done of what they asked."""
        if self.broken is not None:
            return
        self.broken = error
        self.transport.abort()
        if self.watch is not None:
            self.watch.cancel()
        while self.waiting:
            future, _ = self.waiting.popleft()
            if not future.done():
                future.set_exception(Disconnected(str(error)))
                future.exception()

    async def close(self) -> None:
        """Hang up."""
        self.breaks(Disconnected("closed"))
        with suppress(*BROKEN):
            await self.connection.disconnect(nowait=True)
