"""Port T on RabbitMQ: parcels travel in lanes, one quorum queue each; the shards' registers know where each is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from motet.engine.wellformed import check_count, check_each, check_parcels, check_text
from motet.errors import Unavailable, UsageError
from motet.failpoints import hit
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Admission, Delivery, QueueInfo, Transport
from motet_rabbitmq import ops
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.holding import FOREIGN, Holdings, Taken, message_of
from motet_rabbitmq.keys import Keys, WireAdmission
from motet_rabbitmq.lanes import Lanes
from motet_rabbitmq.letters import Letters, run_of
from motet_rabbitmq.machine import CONTROL
from motet_rabbitmq.names import Names
from motet_rabbitmq.pauses import Pauses
from motet_rabbitmq.roll import Roll
from motet_rabbitmq.runs import Runs

__all__ = ["RabbitTransport"]

T = TypeVar("T")
CHUNK = 128 * 1024
"""Bytes of parcels in one call."""
AWAY = 0.1
"""Seconds until a broker that is away is asked again."""


class RabbitTransport:
    """One client's transport."""

    def __init__(self, asking: Asking, lanes: Lanes, pauses: Pauses, lease: timedelta, long: float) -> None:
        """`long` is for how many seconds a lane's message may be held: less than the broker's `consumer_timeout`."""
        self.asking = asking
        self.lanes = lanes
        self.pauses = pauses
        self.names: Names = asking.names
        self.holdings = Holdings(asking)
        self._long = long
        self._lease = lease
        self._keeping: asyncio.Task[None] | None = None

    def shard(self, run: str) -> int:
        return self.names.layout.of(run)

    # Publishing.

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        self.asking.check()
        check_parcels(parcels)
        by_shard: dict[int, list[Parcel]] = {}
        for parcel in parcels:
            by_shard.setdefault(self.shard(run_of(parcel.id)), []).append(parcel)
        calls = [
            self.asking.begin(shard, Letters.publish, part)
            for shard, of_shard in by_shard.items()
            for part in chunks(of_shard)
        ]
        for call in calls:
            await call.result()

    async def admit(self, admissions: Sequence[Admission]) -> list[str]:
        self.asking.check()
        check_each(admissions, Admission)
        check_parcels(admission.parcel for admission in admissions)
        return [await self._admit(admission) for admission in admissions]

    async def _admit(self, admission: Admission) -> str:
        name = admission.parcel.id
        outcome = Key(run_of(name), admission.outcome)
        shard = self.shard(admission.key)
        if await self.asking.ask(self.shard(outcome.run), Runs.get, [outcome]) != [None]:
            # It lost its place, or has been decided: this is a repetition, which must not take another's place.
            return (await self.asking.ask(shard, Keys.standing, [admission.key]))[0] or name
        asked = WireAdmission(
            *(admission.key, admission.rule, ops.parcel(admission.parcel), admission.window),
            *(admission.outcome, admission.replaced),
        )
        return (await self.asking.ask(shard, Keys.admit, [asked]))[0]

    # Receiving.

    async def receive(
        self, lanes: Sequence[Lane], limit: int, wait: timedelta, *, paused: bool = False
    ) -> list[Delivery]:
        self.asking.check()
        check_count(limit, "limit")
        check_each(lanes, Lane)
        self.asking.owners.begin(worker=True)
        if self._keeping is None:
            self._keeping = self.asking.later(self._keep())
        task: asyncio.Task[list[Delivery]] = self.asking.later(self._receive(lanes, limit, wait, paused))
        try:
            return await asyncio.shield(task)  # in a task of its own: see `Asking.apart`
        except asyncio.CancelledError:
            task.cancel()
            task.add_done_callback(self._unwanted)
            raise

    def _unwanted(self, task: asyncio.Task[list[Delivery]]) -> None:
        """Give back what came for somebody who has gone away (T5)."""
        if not task.cancelled() and task.exception() is None and task.result() and not self.asking.closed:
            self.asking.later(self.release(task.result()))

    async def _receive(self, lanes: Sequence[Lane], limit: int, wait: timedelta, paused: bool) -> list[Delivery]:
        loop = asyncio.get_running_loop()
        left = wait.total_seconds()
        give_up = loop.time() + left + self.asking.timeout
        stirred = asyncio.Event()
        self.pauses.changed.add(stirred)
        try:
            while True:
                stirred.clear()
                began = loop.time()
                try:
                    found = await self._look(lanes, limit, left, stirred, paused)
                except Unavailable:
                    # A broker that restarts is away for 5 to 40 s. Whoever waits anyway, waits for it too, and then for
                    # as long as was left when it went away.
                    if loop.time() > give_up:
                        raise
                    await asyncio.sleep(AWAY)
                    continue
                self.asking.check()
                left -= loop.time() - began
                if found or left <= 0 or not limit:
                    return found
        finally:
            self.pauses.changed.discard(stirred)

    async def _look(
        self, lanes: Sequence[Lane], limit: int, left: float, stirred: asyncio.Event, paused: bool
    ) -> list[Delivery]:
        """Take what is there, or wait for the first that comes; perhaps for nothing."""
        if not self.pauses.fresh:
            await asyncio.gather(self.pauses.ready(), self.lanes.channel())
        open_lanes = self._open(lanes, paused)
        taken: list[Taken] = []
        if left <= 0 or not self.lanes.stands(open_lanes, limit):
            taken = await self.lanes.fetch(open_lanes, limit)
        if not taken and left > 0 and limit:
            taken = await self.lanes.wait(open_lanes, limit, left, stirred)
        self._withhold(taken, paused)
        return await self._claimed(taken) if taken else []

    def _open(self, lanes: Sequence[Lane], paused: bool) -> list[Lane]:
        return [lane for lane in lanes if paused or lane.queue not in self.pauses.known]

    def _withhold(self, taken: list[Taken], paused: bool) -> None:
        """Give back what came from a lane that was paused meanwhile."""
        for each in [each for each in taken if not paused and each.lane.queue in self.pauses.known]:
            each.give_back()
            taken.remove(each)

    async def _claimed(self, taken: Sequence[Taken]) -> list[Delivery]:
        """Claim what was taken; whoever is cancelled meanwhile gives it back (T5)."""
        hit("before_claim")
        opening = self.asking.later(self.holdings.open(taken))
        try:
            found: list[Delivery] = await asyncio.shield(opening)
        except asyncio.CancelledError:
            self.asking.later(self._return(opening, taken))
            raise
        except BaseException:
            for each in taken:
                each.give_back()
            raise
        hit("after_fetch")
        return found

    async def _return(self, opening: asyncio.Task[list[Delivery]], taken: Sequence[Taken]) -> None:
        try:
            await self.release(await opening)
        except Exception:  # noqa: BLE001 - whatever it is, the messages go back
            for each in taken:
                each.give_back()

    async def _keep(self) -> None:
        """See to it that nothing is held in a lane for longer than the broker allows (H9)."""
        pause = min(self._long, self._lease.total_seconds()) / 6
        while True:
            await asyncio.sleep(pause)
            self.holdings.forsake(self._lease)
            with suppress(Unavailable):
                await self.holdings.keep(self._long, self._lease)

    # Holding.

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        return self.holdings.extend(receipts)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.asking.check()
        check_each(deliveries, Delivery)
        await self.holdings.forget(self.holdings.find(deliveries))

    async def release(self, deliveries: Sequence[Delivery], delay: timedelta = timedelta()) -> None:
        self.asking.check()
        check_each(deliveries, Delivery)
        await self.holdings.give_back(self.holdings.find(deliveries), delay)

    async def strike(self, delivery: Delivery) -> int:
        self.asking.check()
        check_each((delivery,), Delivery)
        found = self.holdings.find([delivery])
        if not found:
            return 0
        receipt, holding = found[0]
        if holding.message.shard == FOREIGN:
            return 1
        while True:
            held = holding.held()
            strikes = await self.asking.ask(holding.message.shard, Letters.strike, held)
            if strikes or holding.claim == held.claim:
                break
        if not strikes:
            self.holdings.let_go(receipt)  # it is another's, and if it comes here again, it is to run
        return strikes

    # Looking.

    async def everywhere(self, calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Ask every shard."""
        return list(await asyncio.gather(*calls))

    async def find(self, runs: Sequence[str]) -> list[str | None]:
        self.asking.check()
        check_text(*runs)
        answers = await self.everywhere(self.asking.ask(shard, Letters.find, list(runs)) for shard in self.names.all)
        return [next((each for each in of_run if each is not None), None) for of_run in zip(*answers, strict=True)]

    async def queues(self) -> list[QueueInfo]:
        self.asking.check()
        paused = await self.asking.ask(CONTROL, Roll.pauses)
        counts: dict[str, list[int]] = {queue: [0, 0, 0] for queue in paused}
        for answer in await self.everywhere(self.asking.ask(shard, Letters.count) for shard in self.names.all):
            for queue, numbers in answer.items():
                sums = counts.setdefault(queue, [0, 0, 0])
                counts[queue] = [each + more for each, more in zip(sums, numbers, strict=True)]
        return [
            QueueInfo(queue, ready, held, parked, queue in paused)
            for queue, (ready, held, parked) in sorted(counts.items())
        ]

    async def pause(self, queue: str, *, paused: bool = True) -> None:
        self.asking.check()
        check_text(queue)
        await self.pauses.pause(queue, paused)

    async def move(self, source: str, target: str, limit: int) -> int:
        self.asking.check()
        check_text(source, target)
        check_count(limit, "limit")
        if source == target:
            raise UsageError(f"queue {source} cannot be moved to itself")
        moved = 0
        for lane in await self.asking.ask(CONTROL, Roll.known, source):
            while moved < limit and (taken := await self.lanes.fetch([lane], limit - moved)):
                moved += await self._move(taken, target)
        return moved

    async def _move(self, taken: Sequence[Taken], target: str) -> int:
        """Have the registers publish messages anew; what was in the old lane is stale then."""
        by_shard: dict[int, list[Taken]] = {}
        for each in taken:
            by_shard.setdefault(message_of(each.delivery).shard, []).append(each)
        moved = 0
        for shard, of_shard in by_shard.items():
            messages = [message_of(each.delivery) for each in of_shard]
            asked = [(message.id, message.nonce, message.body) for message in messages]
            moved += sum(await self.asking.ask(shard, Letters.relocate, asked, target))
            for each in of_shard:
                each.channel.ack([each.delivery.tag])
        return moved


def chunks(parcels: Sequence[Parcel]) -> Iterable[list[ops.WireParcel]]:
    """Cut parcels into calls."""
    part: list[ops.WireParcel] = []
    size = 0
    for parcel in parcels:
        weight = 100 + len(parcel.body)
        if part and size + weight > CHUNK:
            yield part
            part, size = [], 0
        part.append(ops.parcel(parcel))
        size += weight
    if part:
        yield part


_: type[Transport] = RabbitTransport
