"""A channel: publishing, consuming and settling, in order, on one connection until that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from motet.errors import MotetError, Unavailable, UsageError
from motet_rabbitmq.amqp import encode
from motet_rabbitmq.confirms import Batch
from motet_rabbitmq.connection import Connection
from motet_rabbitmq.consumer import Consumer
from motet_rabbitmq.errors import Blocked, Lost, Unroutable, translate
from motet_rabbitmq.frames import Delivery, Frame, marshal
from motet_rabbitmq.inbox import Inbox

__all__ = ["Channel", "Mode"]

Mode = Literal["confirm", "tx", "plain"]
KEPT = 1000
"""So many calls are remembered as bytes: workers ask the same of the same queues again and again."""
MOST = 65535
"""The greatest prefetch."""


class Channel:
    """Made by `Link.channel`. After the first failure it is dead for good; whoever waits on it is told at once."""

    def __init__(self, connection: Connection, place: str, timeout: float) -> None:
        self.connection = connection
        self.generation: int = connection.generation
        """That of the connection. A tag is valid on the channel that it came on, and nowhere else."""
        self.mode: Mode = "plain"
        self.place = place
        self.timeout = timeout
        self.inbox: Inbox = Inbox(connection, place)
        self.number: int = connection.join(self.inbox.begin)
        self._committing: asyncio.Future[list[Any]] | None = None
        self._consumers: int = 0

    @classmethod
    async def open(
        cls, connection: Connection, place: str, timeout: float, prefetch: int | None, mode: Mode
    ) -> Channel:
        """Open a channel; `Link.channel` is the way to one.

        Raises:
            Lost: The connection ended.
            Unavailable: No answer in time.
        """
        try:
            made = cls(connection, place, timeout)
        except Exception as error:
            raise translate(error, place) from error
        try:
            await made.call("channel.open", "")
            if mode == "confirm":
                await made.call("confirm.select", False)
            elif mode == "tx":
                await made.call("tx.select")
            made.mode = mode
            if prefetch is not None:
                await made.prefetch(prefetch)
        except BaseException:
            made.abandon()
            raise
        return made

    @property
    def alive(self) -> bool:
        return self.inbox.failure is None

    def check(self) -> None:
        """Refuse to use what is dead.

        Raises:
            Lost: It is.
        """
        if self.inbox.failure is not None:
            raise self.inbox.error()

    # Publishing.

    async def publish(self, frames: Sequence[Frame], *, timeout: float | None = None) -> None:
        """Publish in one write, with whatever else goes out in this turn of the loop; return once all are confirmed.

        On a channel in mode "confirm". Of what many tasks publish at once each waits for its own only. Cancelling it
        takes nothing back. `timeout` is in seconds, by default the link's.

        Raises:
            Unroutable: Some had no queue; the others are stored.
            Blocked: The broker takes no messages; nothing was sent, or it was not confirmed in time.
            Lost: The channel ended; some may be stored.
            Unavailable: Not confirmed in time, or refused by a queue (nack); some may be stored.
            TooLarge: More than the broker takes. The channel is dead.
            Missing: No such exchange. The channel is dead.
            NotSerializable: A header cannot be sent; nothing was.
        """
        if not frames:
            return
        if self.mode != "confirm":
            raise UsageError(f"a channel in mode {self.mode!r} does not confirm what is published: use `commit`")
        within = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(within):
                await self._flowing()
                data = self._marshalled(frames)
                batch = Batch(frames, asyncio.get_running_loop().create_future())
                self.inbox.confirms.expect(batch)
                self.connection.send(data)
                await batch.future
        except TimeoutError as error:
            raise self.unanswered("published", within) from error

    def tell(self, frames: Sequence[Frame]) -> None:
        """Publish in this turn of the loop, for whoever listens; nobody hears whether it arrives.

        Raises:
            Lost: The channel is dead.
        """
        self.check()
        self.connection.send(self._marshalled(frames))
        self.inbox.confirms.pass_over(len(frames))

    async def commit(self, frames: Sequence[Frame], tags: Iterable[int], *, timeout: float | None = None) -> None:
        """Publish and acknowledge in one transaction and one write, on a channel in mode "tx".

        One commit at a time; others wait. A worker's death leaves nothing of it done, or all. Cancelling it takes
        nothing back: it may be done. Frames to queues other than that of the acks are all done or none too, unless the
        broker itself is killed.

        Raises:
            Unroutable: A mandatory message had no queue; all else *is* committed.
            Blocked: The broker takes no messages; nothing was sent, or the channel is dead.
            LeaseLost: A tag is not held; nothing was sent.
            Lost: The channel ended, perhaps after the commit.
            Unavailable: No answer in time. The channel is dead; it may be committed.
            NotSerializable: A header cannot be sent; nothing was.
        """
        if self.mode != "tx":
            raise UsageError(f"a channel in mode {self.mode!r} has no transactions")
        within = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(within):
                # RabbitMQ's channel fails when it is sent more while it commits.
                while (before := self._committing) is not None and not before.done():
                    await asyncio.wait([before])
                await self._flowing()
                data = [self._marshalled(frames), self.inbox.held.acks(tags)]
                self.inbox.returned.clear()
                self._committing = answer = self.inbox.expect("tx.commit")
                self.connection.send(b"".join((*data, _encoded(self.number, "tx.commit"))))
                await asyncio.shield(answer)
        except TimeoutError as error:
            failure = self.unanswered("committed", within)
            if self._committing is not None and not self._committing.done():
                self.abandon()
            raise failure from error
        if returned := self.inbox.returned:
            raise Unroutable(tuple(returned))

    async def _flowing(self) -> None:
        """Wait until the broker takes bytes."""
        self.check()
        if not self.connection.flowing.is_set():
            await self.connection.flowing.wait()
            self.check()

    def _marshalled(self, frames: Sequence[Frame]) -> bytes:
        try:
            return b"".join(marshal(frames, self.number, self.connection.frame_limit))
        except (TypeError, ValueError, OverflowError) as error:
            raise translate(error, self.place) from error

    # Consuming.

    async def consume(
        self,
        queue: str,
        *,
        prefetch: int | None = None,
        arguments: Mapping[str, Any] | None = None,
        no_ack: bool = False,
        exclusive: bool = False,
    ) -> Consumer:
        """Have the broker push: `prefetch` unsettled deliveries at most, 1 to 65535.

        Without it what `prefetch` or `Link.channel` last said holds; give one of them, for a quorum queue stops without
        a word at 2,000.

        Raises:
            Missing: No such queue. The channel is dead.
            Locked: Another consumer is exclusive. The channel is dead.
        """
        self.check()
        if prefetch is not None:
            # Its answer is not waited for: they are answered in order, and this one has no reason to be refused.
            data = self._limit(prefetch)
            self.inbox.expect("basic.qos")
            self.connection.send(data)
        self._consumers += 1
        tag = f"{self.number}.{self._consumers}"
        consumer = Consumer(queue, tag, self._cancel, self._drop)
        self.inbox.consume(consumer, no_ack)
        try:
            await self.call("basic.consume", 0, queue, tag, False, no_ack, exclusive, False, arguments)
        except BaseException:
            self._drop(tag)
            raise
        return consumer

    async def _cancel(self, tag: str) -> None:
        await self.call("basic.cancel", tag, False)
        self.inbox.forget(tag)

    def _drop(self, tag: str) -> None:
        self.inbox.forget(tag)
        if self.alive:
            self.connection.send(encode(self.number, "basic.cancel", tag, True))

    async def prefetch(self, count: int) -> None:
        """Set the limit of consumers that start from now on, 1 to 65535."""
        self._limit(count)
        await self.call("basic.qos", 0, count, False)

    def _limit(self, count: int) -> bytes:
        if not 1 <= count <= MOST:
            raise UsageError(f"a prefetch is 1 to {MOST}, not {count}")
        return encode(self.number, "basic.qos", 0, count, False)

    async def get(self, queue: str, limit: int = 1, *, no_ack: bool = False) -> list[Delivery]:
        """Take what is there, without waiting for more: one round trip, whatever the limit.

        Cancelling it gives back what comes; with `no_ack` that is lost.

        Raises:
            Missing: No such queue. The channel is dead.
        """
        self.check()
        asked = encode(self.number, "basic.get", 0, queue, no_ack)
        answers = [self.inbox.expect("basic.get", no_ack) for _ in range(limit)]
        self.connection.send(asked * limit)
        try:
            async with asyncio.timeout(self.timeout):
                found = await asyncio.gather(*answers)
        except BaseException as error:
            self.inbox.give_back(answers)
            if isinstance(error, TimeoutError):
                raise self.unanswered("answered", self.timeout) from error
            raise
        return [each for some in found for each in some]

    # Settling.

    def ack(self, tags: Iterable[int]) -> None:
        """Forget deliveries for good. It is sent in this turn of the loop, and not answered; lost acks redeliver.

        Raises:
            LeaseLost: One was settled before, or is not of this channel; nothing was sent.
            Lost: The channel is dead; they come again.
        """
        self.check()
        self.connection.send(self.inbox.held.acks(tags))

    def nack(self, tags: Iterable[int], *, requeue: bool = True) -> None:
        """Give deliveries back; without `requeue` they are dead-lettered, or dropped.

        Raises:
            LeaseLost: One was settled before, or is not of this channel; nothing was sent.
            Lost: The channel is dead; they come again.
        """
        self.check()
        self.connection.send(self.inbox.held.nacks(tags, requeue=requeue))

    @property
    def holding(self) -> int:
        """How many deliveries are neither acknowledged nor given back, those in consumers' hands included."""
        return len(self.inbox.held.tags)

    # Asking.

    async def call(self, name: str, *arguments: Any, within: float | None = None) -> list[Any]:
        """Send a method, and return what the answer says, `within` seconds, by default the link's timeout.

        Raises:
            Rejected: The broker refused; the channel is dead.
            Lost: The channel ended.
            Unavailable: No answer in time.
            NotSerializable: An argument cannot be sent.
        """
        self.check()
        try:
            data = encode(self.number, name, *arguments)
        except (TypeError, ValueError) as error:
            raise translate(error, self.place) from error
        answer = self.inbox.expect(name)
        self.connection.send(data)
        within = self.timeout if within is None else within
        try:
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError as error:
            raise self.unanswered("answered", within) from error

    async def together(self, name: str, calls: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """Send a method many times in one write, and return what the answers say; the arguments are hashable.

        Raises:
            Rejected: The broker refused one; the channel is dead.
            Lost: The channel ended.
            Unavailable: No answer in time.
        """
        self.check()
        made = [_encoded(self.number, name, *arguments) for arguments in calls]
        answers = [self.inbox.expect(name) for _ in made]
        self.connection.send(b"".join(made))
        try:
            async with asyncio.timeout(self.timeout):
                return [await answer for answer in answers]
        except TimeoutError as error:
            raise self.unanswered("answered", self.timeout) from error

    def unanswered(self, what: str, within: float) -> MotetError:
        """Say that there was no answer in so many seconds, and why."""
        connection = self.connection
        if connection.blocked:
            return Blocked(
                f"{self.place}: the broker takes no messages, {connection.blocked}: free memory or disk there, or raise"
                " its `vm_memory_high_watermark` or lower `disk_free_limit`"
            )
        silence = connection.loop.time() - connection.heard
        if silence >= max(self.timeout, connection.heartbeat):
            # Half open, or stuck, for the broker's own signs of life are missing: nobody should wait behind it.
            connection.breaks(TimeoutError(f"nothing heard for {silence:.0f} s"))
        return Unavailable(f"{self.place}: not {what} within {max(within, 0):.3g} s; it may be done")

    async def close(self) -> None:
        """End it; what it holds goes back to the queues, in order."""
        if self.alive:
            try:
                await self.call("channel.close", 200, "done", 0, 0)
            except MotetError:
                self.abandon()
            else:
                self.connection.leave(self.number)
                self.inbox.lost(Lost(f"{self.place}: the channel was closed"))

    def abandon(self) -> None:
        """End it without waiting."""
        if self.alive:
            self.inbox.end(Lost(f"{self.place}: the channel was closed"))


_encoded = lru_cache(KEPT)(encode)
