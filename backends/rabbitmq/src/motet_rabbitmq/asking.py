"""Asking shards: requests go into their queues, answers come to a queue of this connection; so do wakes and notices."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from motet.errors import MotetError, Unavailable, UsageError
from motet_rabbitmq.calls import Method
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.consumer import Consumer
from motet_rabbitmq.errands import Call, Errand, Mailbox, fail, parts
from motet_rabbitmq.errors import Lost, Nacked
from motet_rabbitmq.frames import Frame
from motet_rabbitmq.link import Link
from motet_rabbitmq.names import ENDED, LANE, SHARD, Names, ended
from motet_rabbitmq.ownership import Ownership
from motet_rabbitmq.roll import read_names
from motet_rabbitmq.wire import Asked, pack, pack_request, read_replies

__all__ = ["Asking"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LOOK = 0.2
"""Seconds without an answer after which one looks whether anybody owns the shard."""
AGAIN = 0.05
LINGER = 5.0
"""Seconds for which a key stays bound by which nobody listens."""


class Asking:
    """One client's questions to the shards, and what it listens to."""

    def __init__(self, link: Link, names: Names, owners: Ownership, timeout: float) -> None:
        self.link = link
        self.names = names
        self.owners = owners
        self.timeout = timeout
        self.closed = False
        self.listeners: dict[str, dict[Callable[[bytes], None], None]] = {}
        self._bound: dict[str, asyncio.Task[None]] = {}
        self._lingering: set[str] = set()
        self._calls: list[Call[Any]] = []
        self._watching: asyncio.Task[None] | None = None
        self._outbox: dict[int, list[Call[Any]]] = {}
        self._pending: dict[int, list[Call[Any]]] = {}
        self._returns: Mailbox[Errand] | None = None
        self._numbers = itertools.count(1)
        self._token = secrets.token_hex(8)
        self._connecting: asyncio.Task[Channel] | None = None
        self._channel: Channel | None = None
        self._listening: Channel | None = None
        self._inbox = ""
        self._made = False
        self._reader: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._looked: dict[int, float] = {}

    def check(self) -> None:
        """Refuse calls after the end (B4)."""
        if self.closed:
            raise UsageError("this RabbitMQ backend is closed")

    # Calls.

    async def ask(self, shard: int, method: Method[Any, P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask a shard, and wait for the answer.

        Raises:
            Unavailable: No answer in time; it may have been done.
            BackendFull: The shard has too much to keep.
            UsageError: It refuses the arguments.
        """
        return await self.begin(shard, method, *args, **kwargs).result()

    def begin(self, shard: int, method: Method[Any, P, R], *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Ask a shard, with whatever else goes there in this turn of the loop; what goes one way keeps its order."""
        self.check()
        loop = asyncio.get_running_loop()
        now = self.owners.needed = loop.time()
        asked = Asked(method.name, pack((*args, *kwargs.values())))
        call = Call(shard, method, asked, loop.create_future(), now + self.timeout)
        self._calls.append(call)
        if self._watching is None or self._watching.done():
            self._watching = self.later(self._watch())
        if not self.owners.running and self._unseen(shard, now):
            self.later(self._see_to(shard))
        outbox = self._outbox.setdefault(shard, [])
        outbox.append(call)
        if len(outbox) == 1:
            loop.call_soon(self._depart, shard)
        return call

    async def _watch(self) -> None:
        """Give up on what nobody answers in time, and see to it that somebody owns what is asked."""
        loop = asyncio.get_running_loop()
        while self._calls:
            await asyncio.sleep(LOOK)
            now, calls = loop.time(), [call for call in self._calls if not call.answer.done()]
            self._calls = [call for call in calls if call.give_up > now]
            for call in calls:
                if call.give_up <= now:
                    queue = self.names.shard(call.shard)
                    fail([call], Unavailable(f"nobody answered for {queue} within {self.timeout:g} s"))
            for shard in {call.shard for call in self._calls}:
                self.later(self._see_to(shard))

    def _depart(self, shard: int) -> None:
        """Hand over in memory what may go so; all else goes by the queue."""
        calls = self._outbox.get(shard, [])
        if self.owners.ready(shard):
            if self._returns is None:
                self._returns = Mailbox(asyncio.get_running_loop(), self._returned)
            near = [call for call in calls if call.method.near]
            if near and self.owners.hand(Errand(shard, near, self._returns)):
                calls[:] = [call for call in calls if not call.method.near]
        if calls and not self.closed:
            self.later(self._flush(shard))

    def _returned(self, errands: list[Errand]) -> None:
        for errand in errands:
            if errand.replies is not None:
                for call, reply in zip(errand.calls, errand.replies, strict=True):
                    call.end(reply)
            elif errand.failure is not None:
                fail(errand.calls, errand.failure)
            else:
                self._outbox.setdefault(errand.shard, [])[:0] = errand.calls
                self.later(self._flush(errand.shard))

    async def _flush(self, shard: int) -> None:
        """Send by the queue what goes to a shard."""
        try:
            channel = await self.connected()
        except BaseException as error:
            # Whatever it is: what is left there would keep all that follows from being sent.
            failure = error if isinstance(error, MotetError) else Lost(f"it could not be asked: {error!r}")
            fail(self._outbox.pop(shard, ()), failure)
            if failure is not error:
                raise
            return
        calls = self._outbox.pop(shard, [])
        await asyncio.gather(*(self._request(channel, shard, part) for part in parts(calls)))

    async def _request(self, channel: Channel, shard: int, calls: list[Call[Any]]) -> None:
        number = next(self._numbers)
        self._pending[number] = calls
        body = pack_request([each.asked for each in calls], self._inbox, number)
        give_up = asyncio.get_running_loop().time() + self.timeout
        while True:
            try:
                await channel.publish([Frame(self.names.shard(shard), body)], timeout=self.timeout)
            except Nacked as error:
                if asyncio.get_running_loop().time() < give_up:
                    await asyncio.sleep(AGAIN)
                    continue
                fail(self._pending.pop(number, ()), error)
            except MotetError as error:
                self._made = self._made and isinstance(error, Unavailable)
                fail(self._pending.pop(number, ()), error)
            return

    def _unseen(self, shard: int, now: float) -> bool:
        return self._looked.get(shard, 0.0) + LOOK <= now

    async def _see_to(self, shard: int) -> None:
        """Become a guest owner when nobody owns the shard."""
        now = asyncio.get_running_loop().time()
        if self.owners.running or not self._unseen(shard, now):
            return
        self._looked[shard] = now
        with suppress(MotetError):
            found = await self.link.topology.look(self.names.shard(shard))
            if found is None:
                self._made = False
                await self.connected()
            elif found.consumers:
                self._looked[shard] = now + 1.0
                return
            self.owners.begin()

    # The connection.

    async def connected(self) -> Channel:
        """Return the channel for publishing; make topology, inbox and bindings first where they are not there."""
        self.check()
        channel = self._channel
        if channel is not None and channel.alive and self._made:
            return channel
        if self._connecting is None or self._connecting.done():
            self._connecting = self.later(self._connect())
        try:
            # Whoever gives up must not leave half of it behind.
            return await asyncio.shield(self._connecting)
        except asyncio.CancelledError:
            self.check()
            raise

    async def _connect(self) -> Channel:
        if not self._made:
            await self._make()
        await self._open_inbox()
        self._channel = channel = await self.link.channel(mode="confirm")
        return channel

    async def _open_inbox(self) -> None:
        """See to it that answers, wakes and notices come; whoever listens looks again after a gap."""
        generation = await self.link.connect()
        before = self._listening
        if before is not None and before.alive and before.generation == generation and self._reader is not None:
            return
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
        if before is not None:
            await before.close()  # what comes to the old inbox would be heard by nobody
            self._miss("the channel was lost while an answer was on its way")
        self._listening = await self.link.channel()
        self._inbox = f"{self.names.root}.reply.{self._token}.{next(self._numbers)}"
        await self.link.topology.declare_queue(self._inbox, durable=False, exclusive=True, auto_delete=True)
        # Others begin and stop to listen meanwhile: who begins waits for this, and binds for itself.
        self._bound = {key: self._bind(key) for key in set(map(self.names.key, self.listeners))}
        await asyncio.gather(*self._bound.values())
        consumer = await self._listening.consume(self._inbox, prefetch=65_535, no_ack=True)
        self._reader = self.later(self._hear(consumer))
        for topic in list(self.listeners):
            self._heard(topic, b"")

    async def apart(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in a task of its own, which is cancelled with the caller.

        A time-out of asyncio, as the wire has them, and a cancel scope of anyio around it that fires in the same turn
        cancel the task twice; each then takes the other's for its own, and the caller sees a bare cancellation.
        """
        task: asyncio.Task[T] = self.later(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _make(self) -> None:
        names, topology = self.names, self.link.topology
        await topology.declare_exchange(names.wake, "direct")
        # Somebody else's number of shards is another alternate exchange, which the broker compares.
        layout = {"alternate-exchange": f"{names.root}.has.{names.shards}.shards"}
        await topology.declare_exchange(f"{names.root}.layout", "fanout", layout)
        await topology.declare_queues({names.shard(index): SHARD for index in names.all} | {names.owners: LANE})
        self._made = True

    async def _hear(self, consumer: Consumer) -> None:
        try:
            while True:
                for delivery in await consumer.batch():
                    if delivery.exchange:
                        self._told(delivery.routing_key, delivery.body)
                        continue
                    replies = read_replies(delivery.body)
                    for call, reply in zip(self._pending.pop(replies.number, ()), replies.replies, strict=False):
                        call.end(reply)
        except MotetError as error:
            self._miss(f"the connection was lost while an answer was on its way: {error}")
            self._channel = self._reader = None
            if not self.closed:
                self.later(self._come_back())

    def _miss(self, why: str) -> None:
        """No answer comes any more to what is under way."""
        pending, self._pending = self._pending, {}
        for calls in pending.values():
            fail(calls, Lost(why))

    async def _come_back(self) -> None:
        """Listen again, for as long as it takes: waiters depend on it."""
        pause = 0.05
        while not self.closed and self.listeners:
            with suppress(MotetError):
                await self.connected()
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    # Listening.

    async def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Have a function called with what is told of a notice, or of a run's end; and with nothing after a gap."""
        self.check()
        self.listeners.setdefault(topic, {})[heard] = None
        await self.connected()
        key = self.names.key(topic)
        if key not in self._bound:
            self._bound[key] = self._bind(key)
        try:
            await asyncio.shield(self._bound[key])  # also where another asked for it: it may not be done yet
        except MotetError:
            self._bound.pop(key, None)
            raise

    def _bind(self, key: str) -> asyncio.Task[None]:
        return self.later(self.link.topology.bind(self._inbox, self.names.wake, key))

    def forget(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Undo `listen`."""
        of_topic = self.listeners.get(topic, {})
        of_topic.pop(heard, None)
        if not of_topic and self.listeners.pop(topic, None) is not None and not self.closed:
            key = self.names.key(topic)
            if key not in self._lingering:
                self._lingering.add(key)
                self.later(self._unbind(key))

    async def _unbind(self, key: str) -> None:
        """Listen no more by a key, unless somebody comes soon; to bind for every call costs more than to hear."""
        await asyncio.sleep(LINGER)
        self._lingering.discard(key)
        if key not in map(self.names.key, self.listeners) and self._bound.pop(key, None) is not None:
            with suppress(MotetError):
                await self.link.topology.unbind(self._inbox, self.names.wake, key)

    def _told(self, key: str, body: bytes) -> None:
        if key.startswith(ENDED):
            for run in read_names(body):
                self._heard(ended(run), b"")
        else:
            self._heard(key, body)

    def _heard(self, topic: str, body: bytes) -> None:
        for heard in list(self.listeners.get(topic, ())):
            heard(body)

    def later(self, work: Any) -> asyncio.Task[Any]:
        """Do something beside what the caller does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Fail what waits, and end everything that goes on beside."""
        self.closed = True
        for key in list(self.listeners):
            self._heard(key, b"")
        error = UsageError("this RabbitMQ backend is closed")
        fail(self._calls, error)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
