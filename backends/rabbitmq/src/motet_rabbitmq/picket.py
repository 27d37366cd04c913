"""Consumers that wait in lanes for what is not there yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from motet.options import Lane
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.consumer import Consumer
from motet_rabbitmq.holding import Taken

__all__ = ["Picket"]


class Picket:
    """One consumer in each of some lanes; `room` is how many messages more the broker pushes before one is settled.

    At least so many: settling makes room again, which is not counted.
    """

    def __init__(self, channel: Channel, room: int) -> None:
        self.channel = channel
        self.room = room
        self.lanes: list[Lane] = []
        self.consumers: dict[Lane, Consumer] = {}
        self._heard: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self, queues: Mapping[Lane, str]) -> None:
        """Start to wait, in lanes and their queues.

        Raises:
            Missing: One of the queues is not there.
        """
        self.lanes = list(queues)
        await self.channel.prefetch(self.room)
        waits = (self._consume(lane, queue) for lane, queue in queues.items())
        for answer in await asyncio.gather(*waits, return_exceptions=True):
            if answer is not None:
                raise answer

    async def _consume(self, lane: Lane, queue: str) -> None:
        self.consumers[lane] = consumer = await self.channel.consume(queue)
        consumer.heard = self._heard

    def hear(self, heard: Callable[[], None]) -> None:
        """Have a function called when something comes. What lingered does so no more."""
        self._heard = heard
        for consumer in self.consumers.values():
            consumer.heard = heard
        if self._timer is not None:
            self._timer.cancel()

    def linger(self, seconds: float, end: Callable[[], object]) -> None:
        """Wait on for the next who hears, and call a function when nobody has come in time."""
        self._timer = asyncio.get_running_loop().call_later(seconds, end)

    def serves(self, lanes: Sequence[Lane], limit: int) -> bool:
        """Say whether it waits in these lanes, and has room for at least half of a limit."""
        return (
            self.lanes == list(lanes)
            and 2 * self.room > limit
            and all(consumer.failure is None for consumer in self.consumers.values())
        )

    @property
    def waiting(self) -> bool:
        """Whether something has come that nobody has taken."""
        return any(consumer.come for consumer in self.consumers.values())

    def take(self, limit: int) -> list[Taken]:
        """Return what has come, in the order of the lanes."""
        taken: list[Taken] = []
        for lane, consumer in self._ordered():
            taken += [Taken(lane, self.channel, each) for each in consumer.take(limit - len(taken))]
        self.room -= len(taken)
        return taken

    def end(self, limit: int) -> list[Taken]:
        """End the consumers; return what has come, and give back what is too much."""
        if self._timer is not None:
            self._timer.cancel()
        came = [Taken(lane, self.channel, each) for lane, consumer in self._ordered() for each in consumer.drop()]
        for each in reversed(came[limit:]):
            each.give_back()
        return came[:limit]

    def _ordered(self) -> list[tuple[Lane, Consumer]]:
        return [(lane, self.consumers[lane]) for lane in self.lanes if lane in self.consumers]
