"""One connection with its own reconnect: several brokers in turn, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial

from motet.errors import BackendError, MotetError, Rejected, Unavailable, UsageError
from motet_rabbitmq.channel import Channel, Mode
from motet_rabbitmq.connection import Connection
from motet_rabbitmq.errors import BROKEN, Lost, translate
from motet_rabbitmq.location import Location
from motet_rabbitmq.topology import Topology

__all__ = ["Link"]

log: logging.Logger = logging.getLogger("motet.rabbitmq")
dice = random.SystemRandom()  # nobody else's: links live in several threads

FIRST, LONGEST = 0.05, 2.0
"""Seconds until another attempt to connect: the first pause, doubled each time, and the longest. Half is by chance."""


STABLE = 2.0
"""Seconds after which a connection is one that worked."""


class Link:
    """A connection that is made when it is first needed, and made anew when it has ended. One event loop's alone.

    A broker that restarts is away for 5 to 40 seconds, so attempts go on until one succeeds, `close` is called, or the
    broker lets nobody in who comes so; calls give up after their timeout, and the next one finds the attempts going on.
    """

    def __init__(self, location: Location, *, timeout: float = 5.0, label: str = "motet") -> None:
        """`timeout` is in seconds, for each call; `label` is what the broker's lists call the connection."""
        self.location = location
        self.timeout = timeout
        self.label = label
        self.generation: int = 0
        """How many connections there have been. Channels, tags and exclusive queues die with theirs."""
        self.topology: Topology = Topology(partial(self.channel, mode="plain"), timeout)
        self._connection: Connection | None = None
        self._attempts: asyncio.Task[Connection] | None = None
        self._failure: MotetError | None = None
        self._tries: int = 0
        self._turn: int = 0
        self._closed: bool = False

    @property
    def alive(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._connection is not None and self._connection.alive

    @property
    def blocked(self) -> str:
        """Which alarm makes the broker refuse messages, as it puts it; nothing when it takes them."""
        return "" if self._connection is None else self._connection.blocked

    @property
    def version(self) -> str:
        """What the broker last reported, such as "3.10.8"; nothing before the first connection."""
        return "" if self._connection is None else str(self._connection.about.get("version", ""))

    async def connect(self) -> int:
        """See to it that there is a connection, and return its generation.

        Raises:
            Rejected: Wrong password, no such vhost, TLS.
            Unavailable: Nobody answered within the timeout; it goes on trying.
            UsageError: It was closed.
        """
        return (await self._connected(self.timeout)).generation

    async def channel(self, *, prefetch: int | None = None, mode: Mode = "plain") -> Channel:
        """Open a channel on the connection there is, or on the next.

        Raises:
            Rejected: As by `connect`.
            Unavailable: As by `connect`, and when the broker has no room for another channel.
            UsageError: It was closed.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.timeout
        while True:
            connection = await self._connected(deadline - clock())
            try:
                made = await Channel.open(connection, self.location.name, deadline - clock(), prefetch, mode)
            except Lost as error:
                self._failure = error
                if clock() >= deadline:
                    raise self._unanswered() from error
            else:
                made.timeout = self.timeout
                return made

    async def ended(self) -> None:
        """Wait until the connection there is now has ended; return at once when there is none."""
        if self._connection is not None:
            await self._connection.ended.wait()

    async def close(self) -> None:
        """Hang up for good; whatever waits is told `Lost`."""
        self._closed = True
        if self._attempts is not None:
            self._attempts.cancel()
            await asyncio.wait([self._attempts])
        if self._connection is not None:
            await self._connection.close()

    def abort(self) -> None:
        """Hang up without a word, as a crash would; the next call connects anew."""
        if self._connection is not None:
            self._connection.breaks(EOFError("given up by us"))

    async def _connected(self, within: float) -> Connection:
        if self._closed:
            raise UsageError("this link to RabbitMQ is closed")
        if self._connection is not None and self._connection.alive:
            return self._connection
        if self._attempts is None or self._attempts.done():
            self._attempts = asyncio.get_running_loop().create_task(self._keep_trying())
            self._attempts.add_done_callback(_look)
        try:
            async with asyncio.timeout(within):
                return await asyncio.shield(self._attempts)
        except TimeoutError as error:
            raise self._unanswered() from error
        except asyncio.CancelledError:
            if self._closed:
                raise Lost(f"{self.location.name}: closed by us") from None
            raise

    async def _keep_trying(self) -> Connection:
        """Connect to the broker whose turn it is, and to the next one, until one lets us in.

        Raises:
            Rejected: One lets nobody in who comes so.
        """
        # One that ended at once counts as a failed attempt: a broker that throws us out is not asked without a pause.
        self._tries = self._tries + 1 if self._connection is not None and self._connection.age() < STABLE else 0
        while True:
            if self._tries:
                pause = min(LONGEST, FIRST * 2 ** min(self._tries - 1, 10))
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret hangs on it
            addresses = self.location.addresses
            address = addresses[self._turn % len(addresses)]
            try:
                made = await Connection.open(self.location, address, self.label, self.timeout)
            except BROKEN as error:
                self._tries += 1
                self._turn += 1
                self._failure = translate(error, f"{self.location.name} at {address[0]}:{address[1]}")
                if isinstance(self._failure, Rejected):
                    raise self._failure from error
                log.log(logging.WARNING if self._tries == 1 else logging.DEBUG, "%s; trying again", self._failure)
                continue
            self.generation += 1
            made.generation = self.generation
            self._connection, self._failure = made, None
            return made

    def _unanswered(self) -> BackendError:
        said = self._failure if isinstance(self._failure, BackendError) else f"{self.location.name}: no answer"
        return Unavailable(f"{said}; gave up after {self.timeout:g} s, and goes on trying")


def _look(attempts: asyncio.Task[Connection]) -> None:
    """Take note of how the attempts ended, when nobody waits for them any more."""
    if not attempts.cancelled():
        attempts.exception()
