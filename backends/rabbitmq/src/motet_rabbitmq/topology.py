"""Queues, exchanges and bindings: asked on a channel of their own, because a refusal closes the channel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from motet.errors import Unavailable
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.errors import Lost, Missing

__all__ = ["QueueState", "Topology"]

Arguments = Mapping[str, Any]

WRITTEN = 1.25
"""Seconds after which RabbitMQ has written that it has a new quorum queue. Killed after 0.75 it did not know it."""


class QueueState(msgspec.Struct, frozen=True):
    """A queue as it is now."""

    name: str
    ready: int
    """Messages that nobody holds."""
    consumers: int


class Topology:
    """Made by a `Link`, as `link.topology`. Each call is repeated over reconnects until the link's timeout.

    Every call raises `Unavailable` without an answer in time, and `Rejected` without the right to it.
    """

    def __init__(self, open_channel: Callable[[], Awaitable[Channel]], timeout: float) -> None:
        self._open = open_channel
        self._timeout = timeout
        self._opening: asyncio.Future[Channel] | None = None
        self._channel: Channel | None = None

    async def declare_queue(
        self,
        name: str,
        arguments: Arguments | None = None,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
    ) -> QueueState:
        """Make a queue, unless it is there; the empty name has the broker choose one.

        An exclusive queue dies with the connection.

        Raises:
            Foreign: It is there with other arguments.
            Locked: It is another connection's alone.
        """
        bits = (False, durable, exclusive, auto_delete, False)
        return QueueState(*await self._ask("queue.declare", 0, name, *bits, arguments))

    async def declare_queues(self, wanted: Mapping[str, Arguments], *, lasting: bool = False) -> list[QueueState]:
        """Make many durable queues in one round trip; the broker takes 2 to 40 ms for each quorum queue that is new.

        A quorum queue that RabbitMQ made within the last second is broken for good when it is killed then, and
        only deleting it helps. With `lasting` this returns when that is over, if the last of these queues was new.

        Raises:
            Foreign: One is there with other arguments; the others are made all the same.
        """
        new = lasting and wanted and await self.look(list(wanted)[-1]) is None
        asked = (self.declare_queue(name, arguments) for name, arguments in wanted.items())
        states = [_state(each) for each in await asyncio.gather(*asked, return_exceptions=True)]
        if new:
            await asyncio.sleep(WRITTEN)
        return states

    async def look(self, name: str) -> QueueState | None:
        """Say how a queue is; None when there is none."""
        try:
            return QueueState(*await self._ask("queue.declare", *_passively(name)))
        except Missing:
            return None

    async def look_at(self, names: Sequence[str]) -> list[QueueState | None]:
        """Do the same for many in one round trip."""
        try:
            channel = await self._ready()
            found = await channel.together("queue.declare", [_passively(name) for name in names])
        except (Missing, Lost):
            # What one asks amiss closes the channel for all.
            return list(await asyncio.gather(*map(self.look, names)))
        return [QueueState(*each) for each in found]

    async def declare_exchange(
        self, name: str, kind: str = "topic", arguments: Arguments | None = None, *, durable: bool = True
    ) -> None:
        """Make an exchange, unless it is there.

        Raises:
            Foreign: It is there, and is another kind.
        """
        await self._ask("exchange.declare", 0, name, kind, False, durable, False, False, False, arguments)

    async def bind(self, queue: str, exchange: str, key: str = "", arguments: Arguments | None = None) -> None:
        """Have an exchange pass on to a queue.

        Raises:
            Missing: One of them is not there.
        """
        await self._ask("queue.bind", 0, queue, exchange, key, False, arguments)

    async def unbind(self, queue: str, exchange: str, key: str = "", arguments: Arguments | None = None) -> None:
        """Undo `bind`; what is not bound, or not there, is no error."""
        await self._ask("queue.unbind", 0, queue, exchange, key, arguments)

    async def bind_exchange(self, target: str, source: str, key: str = "") -> None:
        """Have an exchange pass on to another.

        Raises:
            Missing: One of them is not there.
        """
        await self._ask("exchange.bind", 0, target, source, key, False, None)

    async def delete_queue(self, name: str, *, if_empty: bool = False, if_unused: bool = False) -> int:
        """Delete a queue, and say how many messages were in it; one that is not there has none.

        Raises:
            Foreign: It is not empty, or is used. A quorum queue refuses both conditions (540): look first.
        """
        (count,) = await self._ask("queue.delete", 0, name, if_unused, if_empty, False)
        return int(count)

    async def delete_exchange(self, name: str) -> None:
        """Delete an exchange; one that is not there is no error."""
        await self._ask("exchange.delete", 0, name, False, False)

    async def purge(self, name: str) -> int:
        """Drop the messages of a queue that nobody holds, and count them.

        Raises:
            Missing: No such queue.
        """
        (count,) = await self._ask("queue.purge", 0, name, False)
        return int(count)

    async def _ask(self, name: str, *arguments: Any) -> list[Any]:
        """Ask, again while the channel ends under the question: somebody else's may have been refused on it."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        while True:
            channel = await self._ready()
            try:
                return await channel.call(name, *arguments, within=deadline - clock())
            except Lost as error:
                if clock() >= deadline:
                    raise Unavailable(f"no answer to {name} within {self._timeout:g} s") from error

    async def _ready(self) -> Channel:
        """Return the channel; all who need a new one wait for the same."""
        if self._channel is not None and self._channel.alive:
            return self._channel
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(_look)
        self._channel = made = await asyncio.shield(self._opening)
        return made


def _passively(name: str) -> tuple[Any, ...]:
    return 0, name, True, False, False, False, False, None


def _look(opening: asyncio.Future[Channel]) -> None:
    """Take note of a failure for which nobody waits any more."""
    if not opening.cancelled():
        opening.exception()


def _state(found: QueueState | BaseException) -> QueueState:
    if isinstance(found, BaseException):
        raise found
    return found
