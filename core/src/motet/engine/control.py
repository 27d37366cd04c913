"""Internal messages: orders that need a plan and records, never the registry (C8). Any worker can carry them out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs
import msgspec

from motet.canvas import advance
from motet.canvas.advance import Fed
from motet.canvas.plan import Plan, page_key
from motet.canvas.records import (
    ROOT,
    ROOT_OUTCOME,
    RUN,
    RunInfo,
    claim_key,
    control,
    outcome_key,
    parcel_id,
    splice_children,
    splice_key,
)
from motet.engine.plans import Plans
from motet.engine.submit import read_children, spawned
from motet.engine.values import Values
from motet.errors import StateLost
from motet.failpoints import hit
from motet.message import VERSION, Key, Message, Order, Parcel, Place, Record, State, pack, read_record
from motet.options import CONTROL
from motet.outcome import ErrorInfo, Kind
from motet.ports import Backend, Clock, Delivery
from motet.program import Conflict, Flag, Once, Op, Publish, Put, doubtful

__all__ = ["Control"]

CHUNK = 1000
"""Records removed in one call of a sweep."""
KIN_PATIENCE = timedelta(minutes=1)
"""How long a sweep waits before it asks again whether the callbacks that read from the run have ended."""
AGAIN = "again"
GIVEN_FOR = 24 * 3600.0
"""How long an id that a user gave is remembered, at least, after its run has ended (H5)."""
MARKER = timedelta(hours=1)
"""How long the outcome of a cancelled single call is kept; nothing says what its task would have chosen."""


@attrs.frozen
class Control:
    """Turns orders into programs."""

    backend: Backend
    plans: Plans
    values: Values
    clock: Clock
    lease: timedelta

    async def program(self, message: Message, delivery: Delivery | None = None) -> Sequence[Op]:
        """Say what an order does.

        Raises:
            StateLost: The run's records are gone; there is nothing left to do.
        """
        suspect = delivery is not None and delivery.suspect
        looks = message.order == Order.EXPAND or (message.order == Order.START and not message.plan)
        if message.order == Order.TIMEOUT or (suspect and looks):
            # Its plan may have travelled along, or be at hand: the run has been swept if it is not in the store.
            await self.values.stored(page_key(message.run, "", 0))
        ops = await self._program(message)
        return doubtful(ops) if suspect else ops

    async def _program(self, message: Message) -> Sequence[Op]:
        plan = self.plans.of(message.run, message.segment, message.plan)
        match message.order:
            case Order.START:
                hit("in_start")
                known_record, *_ = await self.backend.store.get([Key(message.run, RUN)])
                await self.backend.timers.cancel([parcel_id(Message(VERSION, Order.JANITOR, message.run))])
                begun = known_record is not None
                return await self.plans.ask(plan, lambda known: self.started(known, message, begun))
            case Order.EXPAND:
                hit("in_expand")
                fed = Fed(message.value, message.source)
                return await self.plans.ask(
                    plan, lambda known: advance.expand(known, message.place, fed, self.clock.now())
                )
            case Order.RESUME:
                record = await self.values.record(message.run, message.place)
                if record is None:
                    raise StateLost(message.run, f"the outcome of node {message.place}")
                decided = record
                return await self.plans.ask(
                    plan, lambda known: advance.resume(known, message.place, decided, self.clock.now())
                )
            case Order.CANCEL | Order.TIMEOUT:
                return await self.closed(plan, message)
            case Order.SWEEP:
                return await self.swept(message)
            case Order.JANITOR:
                return await self.tidied(message)
            case Order.RUN:
                raise TypeError("a task's message is the worker's to run")

    def started(self, plan: Plan, message: Message, recorded: bool) -> list[Op]:
        """Begin a run; it gets its record here if whoever sent the message could not write it."""
        header = plan.header("")
        now = self.clock.now().timestamp()
        info = RunInfo(plan.page("", 0).name, header.size, header.leaves, now, header.ttl, origin=header.kin)
        record: list[Op] = [] if recorded else [Put(Key(plan.run, RUN), pack(info))]
        return record + advance.begin(plan, message, self.clock.now())

    async def closed(self, plan: Plan, message: Message) -> list[Op]:
        """End a node early."""
        now, place = self.clock.now(), message.place
        if message.order == Order.CANCEL:
            record = Record(State.CANCELLED, error=ErrorInfo(kind=Kind.CANCELLED, run=plan.run, message=message.detail))
        else:
            path = await self.plans.ask(plan, lambda known: known.path(place))
            error = ErrorInfo(kind=Kind.TIMEOUT, run=plan.run, node=str(place), path=path, message="out of time")
            record = Record(State.ERR, error=error)
        try:
            if message.order == Order.CANCEL:
                ends = await self.ends(plan, place)
                if ends is None:
                    return []
                place = ends
            return await self.plans.ask(plan, lambda known: advance.close(known, place, record, now))
        except StateLost:
            # A single call keeps no plan: its outcome is all there is, and its message finds it. The sweep is for what
            # it may have become at this very moment, if another term took its place.
            key, sweep = outcome_key(plan.run, message.place), Message(VERSION, Order.SWEEP, plan.run)
            marked = Once(key, pack(record), MARKER, True)
            return [marked, Flag(plan.run, "", 0, 0), Publish((control(sweep, now + MARKER),))]

    async def ends(self, plan: Plan, place: Place) -> Place | None:
        """Say what ends when a node is cancelled; None when what is around it has ended without it.

        A chain that has not come to it yet ends as a whole. Otherwise the chain would be decided, and all that waits
        for it go on, while steps before the node still run.
        """
        waits = await self.plans.ask(plan, lambda known: list(known.before(place)))
        steps = await self.values.store.get([outcome_key(plan.run, step) for _, step in waits])
        for (outer, _), step in zip(waits, steps, strict=True):
            place = outer if step is None else place
        around = await self.plans.ask(plan, lambda known: list(known.above(place)))
        own, *outcomes = await self.values.store.get([outcome_key(plan.run, each) for each in (place, *around)])
        ended = [(outer, read_record(raw)) for outer, raw in zip(around, outcomes, strict=True) if raw is not None]
        if own is not None or not ended:
            return place
        # A chain that was cancelled: perhaps for this very message, which broke off before it had told what is around.
        return next((outer for outer, record in ended if record.state == State.CANCELLED and record.error), None)

    async def swept(self, message: Message) -> list[Op]:
        """Remove an ended run, unless a callback may still read from it; an id that a user gave stays for a day."""
        store, run = self.backend.store, message.run
        if await self.read_by_others(run):
            return [self.repeated(message, self.clock.now() + KIN_PATIENCE)]
        raw, *_ = await store.get([Key(run, RUN)])
        info = msgspec.msgpack.decode(raw, type=RunInfo) if raw else None
        if info is not None and info.given:
            # Not the bytes of the claim: where ops are repeated, an equal claim would start the run again.
            ended = pack(msgspec.structs.replace(info, origin="ended"))
            await store.put([Put(claim_key(run), ended, timedelta(seconds=max(GIVEN_FOR - info.ttl, 1.0)))])
        while not await store.sweep(run, CHUNK):
            hit("in_sweep")
        if message.detail == AGAIN:
            return []
        # What was worked out before, and is settled only now, leaves its records behind: they are swept once more, when
        # nobody can hold a message any more that was received before.
        again = msgspec.structs.replace(message, detail=AGAIN)
        return [Publish((Parcel(f"{run}~:0:w", CONTROL, pack(again), self.clock.now() + 2 * self.lease),))]

    async def read_by_others(self, run: str) -> bool:
        """Say whether a callback that may read from the run has not ended. One that is nowhere never will."""
        children = [name[2:] for name in await self.backend.store.names(run, "k.")]
        if not children:
            return False
        keys = [key for each in children for key in (Key(each, ROOT_OUTCOME), page_key(each, "", 0))]
        records = await self.backend.store.get(keys)
        places = await self.backend.transport.find(children)
        ended, kept = records[::2], records[1::2]
        return any(
            end is None and (place is not None or plan is not None)
            for end, place, plan in zip(ended, places, kept, strict=True)
        )

    def repeated(self, message: Message, due: datetime) -> Publish:
        """Put an order off; the id differs, because the message at hand still holds the old one."""
        following = msgspec.structs.replace(message, attempt=message.attempt + 1)
        return Publish((control(following, due),))

    async def tidied(self, message: Message) -> list[Op]:
        """Remove what was stored for a run that never began: its client, or the settlement of its start, broke off."""
        known = await self.backend.store.get([Key(message.run, RUN), splice_key(message.run, ROOT)])
        while not any(known) and not await self.backend.store.sweep(message.run, CHUNK):
            hit("in_sweep")
        return []

    async def failed(self, parcel: str, error: ErrorInfo) -> Sequence[Op]:
        """Fail the node whose message cannot be read, as far as the parcel's id tells which it is."""
        run, _, rest = parcel.partition(":")
        segment, _, index = rest.partition(":")[0].rpartition(".")
        if not index.isdigit():
            return ()
        place, record = Place(segment, int(index)), Record(State.ERR, error=error, at=self.clock.now().timestamp())
        try:
            return await self.plans.ask(
                self.plans.of(run), lambda known: advance.decided(known, place, record, self.clock.now())
            )
        except StateLost:
            return [Once(outcome_key(run, place), pack(record), MARKER, True)]

    async def after(self, conflict: Conflict, message: Message) -> Sequence[Op]:
        """Advance again from a record that somebody else wrote first; what the pass before has done is repeated."""
        kind, _, name = conflict.key.name.partition(".")
        run = conflict.key.run
        if message.order in (Order.CANCEL, Order.TIMEOUT) or run != message.run or kind not in ("o", "s"):
            return ()
        segment, _, index = name.rpartition(".")
        place = Place(segment, int(index))
        inline = message.plan if segment == message.segment else b""
        plan = self.plans.of(run, message.segment, inline)
        now = self.clock.now()
        if kind == "s":
            chosen = conflict.stored.decode()
            ops = await self.children(splice_children(run, chosen), now)
            entered = await self.plans.ask(plan, lambda known: advance.enter_splice(known, place, chosen, now, ops))
            return doubtful(entered)
        record = read_record(conflict.stored)
        ops = await self.children(Key(run, record.spawned), now) if record.spawned else ()
        return await self.plans.ask(plan, lambda known: advance.overtaken(known, place, record, now, ops))

    async def children(self, key: Key, now: datetime) -> Sequence[Op]:
        """Submit once more what a task had asked for: the settlement that won may have broken off before."""
        raw, *_ = await self.backend.store.get([key])
        return () if raw is None else spawned(read_children(raw), now)
