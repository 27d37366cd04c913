"""Taking messages from lanes: what is there is fetched; for what is not there yet a consumer waits in every lane."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from motet.errors import MotetError, Unavailable
from motet.options import Lane
from motet_rabbitmq import frames
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.consumer import Consumer
from motet_rabbitmq.errors import Missing
from motet_rabbitmq.holding import Taken
from motet_rabbitmq.link import Link
from motet_rabbitmq.names import LANE, Names
from motet_rabbitmq.picket import Picket

__all__ = ["Lanes"]

MOST = 65_535
FEW = 4
"""So many messages are taken one by one; who finds fewer than that has no backlog."""
LINGER = 0.05
"""Seconds for which consumers outlive a wait. A worker waits again when it has claimed what came, in 5 to 20 ms."""
PATIENCE = 2.0
QUIET = 0.05
"""Seconds without another message after which a lane is taken to be empty, whatever was said before."""


class Lanes:
    """The lanes that one client receives from, on a connection of their own."""

    def __init__(self, link: Link, names: Names) -> None:
        self.link = link
        self.names = names
        self._known: set[Lane] = set()
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._picket: Picket | None = None

    async def know(self, lanes: Sequence[Lane]) -> None:
        """See to it that the queues of lanes are there."""
        new = [lane for lane in lanes if lane not in self._known]
        if new:
            await self.link.topology.declare_queues({self.names.lane(lane): LANE for lane in new})
            self._known.update(new)

    async def channel(self) -> Channel:
        async with self._opening:
            if self._channel is None or not self._channel.alive:
                self._channel = await self.link.channel(prefetch=1)
            return self._channel

    async def fetch(self, lanes: Sequence[Lane], limit: int) -> list[Taken]:
        """Take what is there, from the first lane on.

        Raises:
            Unavailable: The broker is away; what had been taken goes back.
        """
        if left := self._dismiss(limit):
            return left
        channel = await self.channel()
        lanes = await self._found(lanes)
        # Looking costs one round trip for all lanes; of the worker's dozen most are empty.
        looks = await self.link.topology.look_at([self.names.lane(lane) for lane in lanes])
        taken: list[Taken] = []
        try:
            for lane, state in zip(lanes, looks, strict=True):
                if state is not None and (asked := min(state.ready, limit - len(taken))):
                    found = await self._take(channel, self.names.lane(lane), asked)
                    taken += [Taken(lane, channel, delivery) for delivery in found]
        except Missing:
            return []
        except BaseException:
            for each in reversed(taken):
                each.give_back()
            raise
        return taken

    async def _found(self, lanes: Sequence[Lane]) -> Sequence[Lane]:
        """Leave out lanes that are not there: to make a quorum queue takes up to 40 ms, and nothing is in it."""
        new = [lane for lane in lanes if lane not in self._known]
        if not new:
            return lanes
        there = dict(zip(new, await asyncio.gather(*map(self._exists, new)), strict=True))
        self._known.update(lane for lane in new if there[lane])
        return [lane for lane in lanes if there.get(lane, True)]

    async def _exists(self, lane: Lane) -> bool:
        """Ask on a channel of its own, which the broker closes if there is no such queue."""
        channel = await self.link.channel()
        try:
            await channel.call("queue.declare", 0, self.names.lane(lane), True, False, False, False, False, None)
        except Missing:
            return False
        finally:
            await channel.close()
        return True

    async def _take(self, channel: Channel, queue: str, count: int) -> list[frames.Delivery]:
        """Take so many that are said to be there: a few by get, many by a consumer that lives until they have come."""
        try:
            async with asyncio.timeout(PATIENCE):
                if count <= FEW:
                    return await channel.get(queue, count)
                consumer = await channel.consume(queue, prefetch=count)
                return await self._drain(channel, consumer, count)
        except TimeoutError as error:
            # What a queue is asked before it has a leader again may never be answered.
            if self._channel is channel:
                self._channel = None  # not closed: it may hold what runs
            raise Unavailable(f"{queue} did not answer within {PATIENCE:g} s") from error

    async def _drain(self, channel: Channel, consumer: Consumer, count: int) -> list[frames.Delivery]:
        """Take from a consumer until so many have come, or no more do: others take from the lane too."""
        found: list[frames.Delivery] = []
        try:
            while len(found) < count:
                async with asyncio.timeout(QUIET):
                    found += await consumer.batch()
        except TimeoutError:
            pass
        except BaseException:
            found += consumer.drop()
            with suppress(MotetError):
                channel.nack([each.tag for each in found])
            raise
        return [*found, *consumer.drop()]

    async def wait(self, lanes: Sequence[Lane], limit: int, seconds: float, stirred: asyncio.Event) -> list[Taken]:
        """Wait for the first message of any lane; return what has come with it, perhaps nothing.

        Who takes a few messages now and then finds the consumers waiting still: to start and to end them is two entries
        in the log of every lane.
        """
        await self.know(lanes)
        picket, self._picket = self._picket, None
        if picket is not None and not picket.serves(lanes, limit):
            if left := picket.end(limit):
                return left
            picket = None
        if picket is None:
            picket = Picket(await self.channel(), min(limit, MOST))
        picket.hear(stirred.set)
        try:
            if not picket.lanes:
                await picket.begin({lane: self.names.lane(lane) for lane in lanes})
            if not picket.waiting:
                await _wait(stirred, seconds)
        except Missing:
            self._known.clear()  # somebody has deleted a queue
        except BaseException:
            picket.end(0)
            raise
        came = picket.take(limit)
        if 0 < len(came) < FEW and picket.room > 0 and not picket.waiting and self._picket is None:
            self._picket = picket
            picket.linger(LINGER, self._dismiss)
            return came
        return came + picket.end(limit - len(came))

    def stands(self, lanes: Sequence[Lane], limit: int) -> bool:
        """Say whether consumers wait in these lanes still: what is there has come, or is on its way."""
        return self._picket is not None and self._picket.serves(lanes, limit)

    def _dismiss(self, limit: int = 0) -> list[Taken]:
        """End the consumers that linger; return what has come, and give back what is too much."""
        picket, self._picket = self._picket, None
        return [] if picket is None else picket.end(limit)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
