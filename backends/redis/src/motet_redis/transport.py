"""Port T on Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from motet.engine.wellformed import check_count, check_each, check_parcels, check_text
from motet.errors import MotetError, UsageError
from motet.failpoints import hit
from motet.message import Parcel
from motet.options import Lane
from motet.ports import Admission, Delivery, QueueInfo, Transport
from motet_redis.bells import TRANSPORT, Bells
from motet_redis.client import Client
from motet_redis.finder import Finder, all_receipts
from motet_redis.scripts import Script
from motet_redis.settling import Settling
from motet_redis.wire import PUBLISH, delivery_of, encode, lane_name, milliseconds, pairs, parcel, raw, slices

__all__ = ["RedisTransport"]

FETCH = Script.of("messages", "fetch")
ADMIT = Script.of("messages", "records", "admit")
CHUNK = 250
"""Parcels in one entry of a publish."""
MOST = 1000
"""Messages of one fetch."""
BACKSTOP = 1.0
"""Seconds between two looks of who waits: a wake-up may be lost with the worker that took it."""
PAGE = 500

Asked = tuple[tuple[str, ...], bool]
"""Which lanes, and whether paused ones too."""
NOWHERE: tuple[Asked, float] = ((), False), 0.0


class RedisTransport:
    """Moves parcels through lists."""

    def __init__(self, client: Client, settling: Settling) -> None:
        self.client = client
        self._settling = settling
        self._bells = Bells(client)
        self._lease = milliseconds(client.settings.lease)
        self._fetches = 0
        self._empty: tuple[Asked, float] = NOWHERE
        self._tasks: set[asyncio.Task[None]] = set()

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        self.client.check()
        check_parcels(parcels)
        coded = [parcel(each) for each in parcels]
        entries = [("", "", [(PUBLISH, coded[first : first + CHUNK])]) for first in range(0, len(coded), CHUNK)]
        await self._settling.settle(entries)

    async def receive(
        self, lanes: Sequence[Lane], limit: int, wait: timedelta, *, paused: bool = False
    ) -> list[Delivery]:
        self.client.check()
        check_count(limit, "limit")
        check_each(lanes, Lane)
        loop, names = asyncio.get_running_loop(), tuple(map(lane_name, lanes))
        give_up = loop.time() + wait.total_seconds()
        while True:
            await self._rest((names, paused), give_up)
            start, most = loop.time(), min(limit, MOST)
            taken, pause = await self._fetch(lanes, names, most, paused)
            if len(taken) < max(most, 1):
                self._empty = (names, paused), start + pause
            if taken or loop.time() >= give_up:
                return taken

    async def _rest(self, asked: Asked, give_up: float) -> None:
        """Wait for a bell where the fetch before has left nothing: to look again at once would find nothing either."""
        empty, until = self._empty
        self._empty = NOWHERE
        left = min(give_up, until) - asyncio.get_running_loop().time()
        if empty != asked or left <= 0:
            return
        if asked[0]:
            await self._bells.wait(asked[0], left)
        else:
            await asyncio.sleep(left)
        self.client.check()

    async def _fetch(
        self, lanes: Sequence[Lane], names: Sequence[str], limit: int, paused: bool
    ) -> tuple[list[Delivery], float]:
        """Take what there is; or say for how long there will be nothing, if nobody publishes."""
        self._fetches += 1
        fetch = f"{self.client.id}.{self._fetches}"
        arguments = self._lease, limit, fetch, int(paused)
        calling = asyncio.get_running_loop().create_task(
            self.client.call(FETCH, *arguments, 0, *names, again=(*arguments, 1, *names))
        )
        try:
            answer: Any = await asyncio.shield(calling)
        except asyncio.CancelledError:
            # What it takes comes back (T5): the answer is awaited by a task of its own.
            self._later(self._return(calling, fetch))
            raise
        except MotetError:
            # The fetch may have taken something whose answer was lost; it would come back after its lease only.
            self._later(self._recover(fetch))
            raise
        hit("after_fetch")
        taken = [
            delivery_of(fetch, lanes[int(answer[place])], name.decode(), value)
            for place in range(1, len(answer), 2)
            for name, value in pairs(answer[place + 1])
        ]
        return taken, BACKSTOP if answer[0] < 0 else min(BACKSTOP, (answer[0] + 1) / 1000)

    def _later(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _return(self, calling: asyncio.Task[Any], fetch: str) -> None:
        try:
            answer = await calling
        except MotetError:
            await self._recover(fetch)
            return
        if len(answer) > 1:
            await self._recover(fetch)

    async def _recover(self, fetch: str) -> None:
        """Give back what a fetch took and nobody saw."""
        while not self.client.closed:
            try:
                await self.client.call(TRANSPORT, "recover", fetch)
            except MotetError:
                await asyncio.sleep(0.5)
            else:
                return

    async def close(self) -> None:
        """Let what was taken for nobody get back, if the server answers soon."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        kept: list[int] = self.client.call_from_thread(TRANSPORT, "extend", self._lease, *receipts)
        return [each == 1 for each in kept]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.client.check()
        check_each(deliveries, Delivery)
        for receipts in slices([delivery.receipt for delivery in deliveries]):
            await self.client.call(TRANSPORT, "ack", *receipts)

    async def release(self, deliveries: Sequence[Delivery], delay: timedelta = timedelta()) -> None:
        self.client.check()
        check_each(deliveries, Delivery)
        # The last ones first, so that all come to the front of their lanes in their old order.
        for receipts in reversed(slices([delivery.receipt for delivery in deliveries])):
            await self.client.call(TRANSPORT, "release", milliseconds(delay), *receipts)

    async def strike(self, delivery: Delivery) -> int:
        self.client.check()
        check_each((delivery,), Delivery)
        count: int = await self.client.call(TRANSPORT, "strike", secrets.token_hex(8), delivery.receipt)
        return count

    async def find(self, runs: Sequence[str]) -> list[str | None]:
        self.client.check()
        check_text(*runs)
        return await Finder(self.client).find(runs)

    async def queues(self) -> list[QueueInfo]:
        self.client.check()
        ready, later, paused = await self.client.call(TRANSPORT, "count")
        held = Counter(_queue(lane) for _, lane in await all_receipts(self.client) if lane)
        waiting = Counter({_queue(lane): 0 for lane in ready[::2]})
        for lane, count in pairs(ready):
            waiting[_queue(lane)] += count
        parked = {queue.decode(): int(count) for queue, count in pairs(later) if int(count)}
        stopped = {queue.decode() for queue in paused}
        return [
            QueueInfo(queue, waiting[queue], held[queue], parked.get(queue, 0), queue in stopped)
            for queue in sorted({*waiting, *held, *parked, *stopped})
        ]

    async def pause(self, queue: str, *, paused: bool = True) -> None:
        self.client.check()
        check_text(queue)
        await self.client.call(TRANSPORT, "pause" if paused else "resume", queue)

    async def move(self, source: str, target: str, limit: int) -> int:
        self.client.check()
        check_text(source, target)
        check_count(limit, "limit")
        if source == target:
            raise UsageError(f"queue {source} cannot be moved to itself")
        total = 0
        while total < limit:
            part = min(PAGE, limit - total)
            moved: int = await self.client.call(TRANSPORT, "move", secrets.token_hex(8), source, target, part)
            total += moved
            if moved < part:
                break
        return total

    async def admit(self, admissions: Sequence[Admission]) -> list[str]:
        self.client.check()
        check_each(admissions, Admission)
        check_parcels(admission.parcel for admission in admissions)
        coded = [
            (each.key, each.rule, parcel(each.parcel), milliseconds(each.window), each.outcome, raw(each.replaced))
            for each in admissions
        ]
        return [name.decode() for part in slices(coded) for name in await self.client.call(ADMIT, encode(part))]


def _queue(lane: bytes | str) -> str:
    text = lane.decode() if isinstance(lane, bytes) else lane
    return text.rsplit(":", 2)[0]


_: type[Transport] = RedisTransport
