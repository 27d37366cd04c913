"""Lanes: a consumer for each, and one pull that waits while somebody here wants its messages."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from nats.errors import ConnectionClosedError

from motet.errors import MotetError
from motet.options import Lane
from motet_nats.client import Client, encode
from motet_nats.connection import Message
from motet_nats.errors import BROKEN, ServerError
from motet_nats.gathering import together
from motet_nats.link import Link, Slot, status
from motet_nats.names import consumer, pending
from motet_nats.streams import Streams

__all__ = ["SILENCE", "Lanes", "Tap"]

ACCEPT = 100_000
"""Messages that all workers together may hold of one lane; reaching it stops delivery, silently."""
LINGER = 0.03
"""Seconds that a message waits here for the next `receive`, when it came after the last one had gone."""
ASK = 30.0
"""Seconds after which a pull that waits is made anew."""
BEAT = 2.0
"""Seconds between two signs that the server has not forgotten a pull, as it does when another one becomes leader."""
SILENCE = 5.0
"""Seconds without a sign after which a pull is made anew."""
HEARS = 0.005
"""Seconds in which a server may hear of what another one has taken in: 1 to 90 ms were measured on a busy machine."""

GLANCE = 0.25
"""Seconds for which the server tells a busy worker of what comes to a lane that it has just found empty."""

BROKEN_OFF = "broken off"
GLANCING: bytes = encode({"batch": 1, "expires": round(GLANCE * 1e9)})
WAITING: bytes = encode({"batch": 1, "expires": round(ASK * 1e9), "idle_heartbeat": round(BEAT * 1e9)})

GiveBack = Callable[[Sequence[Message]], Awaitable[None]]


class Tap:
    """One lane, as this client pulls it."""

    def __init__(self, lanes: Lanes, lane: Lane) -> None:
        self.lanes = lanes
        self.lane = lane
        self.subject: str = f"$JS.API.CONSUMER.MSG.NEXT.{lanes.client.names.messages}.{consumer(lane)}"
        self.came: deque[Message] = deque()
        self.waiting: dict[asyncio.Event, None] = {}
        self.users: int = 0
        self.open: dict[Slot, float] = {}
        self.link: Link | None = None
        self.calm: bool = False
        """The last message came to a pull that waited, and no other was there: who waits asks for nothing before."""

    def armed(self) -> bool:
        """Say whether a pull waits at the server, which proves that the lane is empty."""
        if self.link is None or self.link is not self.lanes.client.link or not self.link.lives():
            self.open.clear()
            return False
        now = self.link.loop.time()
        if self.open and min(self.open.values()) < now:
            self.open = {slot: until for slot, until in self.open.items() if until >= now}
        return bool(self.open)

    async def arm(self) -> None:
        """Have a pull wait for each who waits here."""
        self.armed()
        while len(self.open) < len(self.waiting):
            await self.lanes.client.tell(partial(self._arm, WAITING, SILENCE))

    async def watch(self) -> None:
        """Have a pull wait for a moment, so that whoever is busy need not ask for what is not there, again and again.

        That took a question for each higher lane and batch, one after the other: a fifth of a worker's time. A worker
        that does not come back gives what it gets this way to others, as what came too late for a `receive`.
        """
        if not self.armed():
            await self.lanes.client.tell(partial(self._arm, GLANCING, GLANCE))

    async def _arm(self, pull: bytes, seconds: float, link: Link) -> None:
        if link is not self.link:
            self.open.clear()
            self.link = link
        slot = await link.slot(_nothing)
        slot.handler = partial(self.take, link, slot)
        self.open[slot] = asyncio.get_running_loop().time() + seconds
        await link.send(self.subject, pull, slot.inbox, hurry=False)

    def take(self, link: Link, slot: Slot, message: Message | None) -> None:
        """Take what came to a pull: a message, or that there will be none, or that it waits still."""
        if message is not None and status(message) == "100":
            if slot in self.open:
                self.open[slot] = asyncio.get_running_loop().time() + SILENCE
            return
        self.open.pop(slot, None)
        link.leave(slot)
        if message is not None and not status(message):
            self.calm = not pending(message.reply)
            self.keep([message])
        elif message is not None and status(message) == "503":
            self.lanes.known.discard(self.lane)
        self.wake()

    def keep(self, messages: Sequence[Message]) -> None:
        """Hold messages for whoever receives next, but not for long."""
        self.came.extend(messages)
        if not self.users:
            asyncio.get_running_loop().call_later(LINGER, self.rest)
        self.wake()

    def rest(self) -> None:
        """Give back what nobody here has come for."""
        if self.came and not self.users:
            left = list(self.came)
            self.came.clear()
            self.lanes.later(self.lanes.give_back(left))

    def wake(self) -> None:
        for event in self.waiting:
            event.set()

    async def pull(self, size: int) -> list[Message]:
        """Take what is there, at most so many; nothing when that is known to be nothing."""
        found: list[Message] = []
        while self.came and len(found) < size:
            found.append(self.came.popleft())
        if len(found) == size or self.armed() or (found and self.calm):
            return found
        self.calm = False
        pulling = asyncio.get_running_loop().create_task(self._pull(size - len(found)))
        try:
            return found + await asyncio.shield(pulling)
        except asyncio.CancelledError:
            # What it takes comes back (T5): a task of its own waits for the answer.
            self.lanes.later(self._return(found, pulling))
            raise
        except BaseException:
            self.keep(found)
            raise

    async def _return(self, found: list[Message], pulling: asyncio.Task[list[Message]]) -> None:
        with suppress(MotetError):
            found = found + await pulling
        if found:
            self.keep(found)

    async def behind(self, give_up: float) -> bool:
        """Say whether there was more than could be pulled, after a moment; False once it is time to give up.

        Of several servers one takes a message in and another one hands it out, which hears of it later.
        """
        streams, stream = self.lanes.streams, self.lanes.client.names.messages
        loop = asyncio.get_running_loop()
        if streams.direct:
            return False  # one server does both
        last = await streams.last(stream, self.lanes.client.names.in_lane("q", self.lane))
        if last is None or loop.time() > give_up:
            return False
        about = await streams.consumer(stream, consumer(self.lane))
        if about is None or about["delivered"]["stream_seq"] >= last.sequence:
            return False
        await asyncio.sleep(HEARS)
        return True

    async def _pull(self, size: int) -> list[Message]:
        found: list[Message] = []

        async def call(link: Link) -> list[Message]:
            said = await self._ask(link, found, size)
            if said == BROKEN_OFF and not found:
                raise ConnectionClosedError
            if said == "503" and not found:
                raise ServerError(503, "no consumer")
            return found

        try:
            return await self.lanes.client.keep_asking(call)
        except ServerError:
            # Somebody has removed the consumer: what it had delivered comes again, as what was never delivered.
            self.lanes.known.discard(self.lane)
            await self.lanes.know([self.lane])
            return found

    async def _ask(self, link: Link, found: list[Message], size: int) -> str:
        """Pull what is there, without waiting, and say how that ended."""
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def take(message: Message | None) -> None:
            said = BROKEN_OFF if message is None else status(message)
            if message is not None and not said:
                found.append(message)
            if (said or len(found) >= size) and not done.done():
                done.set_result(said)

        slot = await link.slot(take)
        try:
            await link.send(self.subject, encode({"batch": size, "no_wait": True}), slot.inbox)
            said = await done
        except BaseException:
            slot.handler = partial(self.take, link, slot)  # what comes late is for whoever receives next
            raise
        link.leave(slot)
        return said


class Lanes:
    """The taps of a client, and the consumers that it knows to be there."""

    def __init__(self, client: Client, streams: Streams) -> None:
        self.client = client
        self.streams = streams
        self.known: set[Lane] = set()
        self.making: defaultdict[Lane, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.taps: dict[Lane, Tap] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        self.give_back: GiveBack

    def tap(self, lane: Lane) -> Tap:
        """The tap of a lane."""
        found = self.taps.get(lane)
        if found is None:
            found = self.taps[lane] = Tap(self, lane)
        return found

    async def know(self, lanes: Sequence[Lane]) -> None:
        """See to it that lanes have consumers: whoever publishes first makes them."""
        if new := [lane for lane in dict.fromkeys(lanes) if lane not in self.known]:
            await together([self._know(lane) for lane in new])

    async def _know(self, lane: Lane) -> None:
        """Make the consumer of one lane, once for all who ask; other lanes do not wait for it.

        A cluster elects a leader for each consumer, which takes it most of a second.
        """
        async with self.making[lane]:
            if lane not in self.known:
                await self.make(lane)
                self.known.add(lane)

    async def make(self, lane: Lane) -> None:
        """Make the consumer of a lane; it is left as it is when it is there."""
        names, name = self.client.names, consumer(lane)
        subject = names.in_lane("q", lane)
        config: dict[str, Any] = {
            "durable_name": name,
            "name": name,
            "ack_policy": "explicit",
            "ack_wait": round(self.client.settings.lease.total_seconds() * 1e9),
            "max_deliver": -1,
            "max_ack_pending": ACCEPT,
            "max_waiting": 8192,
            "filter_subject": subject,
            "deliver_policy": "all",
        }
        request = {"stream_name": names.messages, "config": config, "action": ""}
        await self.streams.asked(f"CONSUMER.CREATE.{names.messages}.{name}.{subject}", request)

    def later(self, work: Awaitable[None]) -> None:
        """Do something that nobody waits for, and that may fail: then a lease does it."""

        async def quietly() -> None:
            with suppress(MotetError, *BROKEN):
                await work

        task = asyncio.get_running_loop().create_task(quietly())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Give back what nobody took, if the server answers soon."""
        for tap in self.taps.values():
            tap.users = 0
            tap.rest()
            tap.wake()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=1.0)


def _nothing(_: Message | None) -> None:
    """Take nothing yet."""
