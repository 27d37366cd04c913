"""Taking messages from lanes: what is there is fetched; for what is not there yet a consumer waits in every lane."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from motet.errors import MotetError, Unavailable
from motet.options import Lane
from motet_rabbitmq import frames
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.consumer import Consumer
from motet_rabbitmq.errors import Missing
from motet_rabbitmq.holding import Taken
from motet_rabbitmq.link import Link
from motet_rabbitmq.names import LANE, Names

__all__ = ["Lanes"]

MOST = 65_535
FEW = 4
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
        """Wait for the first message of any lane; return what has come with it, perhaps nothing."""
        await self.know(lanes)
        channel = await self.channel()
        consumers: dict[Lane, Consumer] = {}
        try:
            await channel.prefetch(min(limit, MOST))
            await self._consume(channel, lanes, consumers)
            await _first([*map(_ready, consumers.values()), stirred.wait()], seconds)
        except Missing:
            self._known.clear()  # somebody has deleted a queue
        except BaseException:
            await self._stop(channel, consumers, 0)
            raise
        return await self._stop(channel, consumers, limit)

    async def _consume(self, channel: Channel, lanes: Sequence[Lane], consumers: dict[Lane, Consumer]) -> None:
        async def consume(lane: Lane) -> None:
            consumers[lane] = await channel.consume(self.names.lane(lane))

        for answer in await asyncio.gather(*map(consume, lanes), return_exceptions=True):
            if answer is not None:
                raise answer

    async def _stop(self, channel: Channel, consumers: dict[Lane, Consumer], limit: int) -> list[Taken]:
        """End consumers; return what came, in the order of the lanes, and give back what is too much."""
        stopping = asyncio.create_task(self._stopped(channel, consumers))
        try:
            came = await asyncio.shield(stopping)
        except asyncio.CancelledError:
            stopping.add_done_callback(_give_back)
            raise
        for each in reversed(came[limit:]):
            each.give_back()
        return came[:limit]

    async def _stopped(self, channel: Channel, consumers: dict[Lane, Consumer]) -> list[Taken]:
        came: list[Taken] = []
        answers = await asyncio.gather(*(each.cancel() for each in consumers.values()), return_exceptions=True)
        for lane, found in zip(consumers, answers, strict=True):
            if not isinstance(found, BaseException):
                came += [Taken(lane, channel, delivery) for delivery in found]
        return came


def _give_back(stopping: asyncio.Task[list[Taken]]) -> None:
    with suppress(Exception, asyncio.CancelledError):
        for each in reversed(stopping.result()):
            each.give_back()


async def _ready(consumer: Consumer) -> None:
    """Wait until a consumer has something, and leave it there."""
    found = await consumer.batch()
    consumer.come[:0] = found


async def _first(waits: Sequence[Coroutine[Any, Any, object]], seconds: float) -> None:
    """Wait until one of these is done, at most so many seconds."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
