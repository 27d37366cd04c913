"""Settling with primitives alone: the default for a broker that has nothing to fuse them with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from motet.engine.wellformed import check_program
from motet.errors import MotetError
from motet.failpoints import hit
from motet.ports.deadletters import DeadLetters
from motet.ports.locks import Locks
from motet.ports.settler import Entry, Reply
from motet.ports.store import Store
from motet.ports.timers import Timers
from motet.ports.transport import Transport
from motet.program import Arrive, Bury, Conflict, Do, Drop, Flag, Guard, Once, Op, Open, Publish, Put, Retry, walk

__all__ = ["OrderedSettler"]


class OrderedSettler:
    """Walks each program op by op, and acknowledges last. A crash between two ops is repaired by redelivery."""

    def __init__(
        self,
        transport: Transport,
        store: Store,
        timers: Timers,
        deadletters: DeadLetters,
        locks: Locks | None = None,
    ) -> None:
        self.transport = transport
        self.store = store
        self.timers = timers
        self.deadletters = deadletters
        self.locks = locks

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        replies: list[Reply] = []
        failure: MotetError | None = None
        for entry in entries:
            try:
                replies.append(await self.settle_one(entry))
            except MotetError as error:
                # The others are settled first (P6).
                failure = failure or error
        if failure is not None:
            raise failure
        return replies

    async def settle_one(self, entry: Entry) -> Reply:
        check_program(entry.program)
        hit("before_settle")
        steps = walk(entry.program, atomic=False)
        answer: Any = None
        conflicts: list[Conflict] | None = None
        while conflicts is None:
            try:
                op = steps.send(answer)
            except StopIteration as end:
                conflicts = list(end.value)
            else:
                answer = await self.apply(op)
                hit(AFTER.get(type(op), ""))
        if self.locks is not None and entry.settlement is not None and entry.settlement.release and not conflicts:
            # Before the acknowledgement: whoever dies between the two is redelivered, and lets go again.
            await self.locks.release(entry.settlement.release)
        if entry.delivery is not None and not conflicts:
            hit("before_ack")
            await self.transport.ack([entry.delivery])
            hit("after_ack")
        return Reply(conflicts)

    async def apply(self, op: Op) -> Any:
        """Do one op, and answer as `walk` asks."""
        match op:
            case Once():
                return (await self.store.put_once([op]))[0]
            case Guard():
                return any(record is not None for record in await self.store.get(op.keys))
            case Arrive():
                return await self.store.arrive(op.key, op.slot, op.failed)
            case Publish():
                await self.hand_over(op)
            case Put():
                await self.store.put([op])
            case Drop():
                await self.store.drop([op.key])
            case Open():
                await self.store.open([op])
            case Flag():
                await self.store.flag([op])
            case Retry():
                # The mark comes last: whoever dies before it parks again, and meanwhile the id makes the parcel one.
                # A copy that is parked after the first has run is marked, so that it looks before it runs.
                if await self.store.get([op.key]) == [None]:
                    await self.timers.park([msgspec.structs.replace(op.parcel, suspect=True)])
                    await self.store.put_once([Once(op.key, b"1", op.ttl)])
            case Bury():
                await self.deadletters.bury([op.letter])
            case Do():
                raise TypeError("walk opens branches itself")
        return None

    async def hand_over(self, op: Publish) -> None:
        if ready := [parcel for parcel in op.parcels if parcel.due is None]:
            await self.transport.publish(ready)
        if later := [parcel for parcel in op.parcels if parcel.due is not None]:
            await self.timers.park(later)


AFTER: dict[type[Op], str] = {
    Once: "after_record",
    Put: "after_put",
    Drop: "after_drop",
    Open: "after_open",
    Arrive: "after_arrive",
    Guard: "after_guard",
    Retry: "after_retry",
    Publish: "after_publish",
    Flag: "after_flag",
    Bury: "after_bury",
}
