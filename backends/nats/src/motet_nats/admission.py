"""Publishes subject to a key. The key's record is written first, and is the decision; what follows can be repeated.

Whoever receives a parcel that stands for a key claims it there: a parcel is claimed, or it loses its place, never both.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from motet.failpoints import hit
from motet.message import Parcel
from motet.options import Lane
from motet.ports import Admission, Rule
from motet_nats.errors import Mismatch
from motet_nats.records import Records
from motet_nats.wire import pack

__all__ = ["Keys"]

PATIENCE = 1000
"""Milliseconds that whoever wrote a key's record has for the rest; then somebody else does it."""
PAUSE = 0.02


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """A parcel that is to be published."""

    lane: Lane
    body: bytes
    due: datetime | None
    suspect: bool


class Loser(msgspec.Struct, frozen=True, array_like=True):
    """A parcel that lost its place, and what its run is told."""

    id: str
    outcome: str
    replaced: bytes


class State(msgspec.Struct, frozen=True, array_like=True):
    """What stands for a key. `waiting` and `lost` are still to be done."""

    id: str
    until: int
    since: int
    taken: bool = False
    waiting: Waiting | None = None
    lost: tuple[Loser, ...] = ()


_state = msgspec.msgpack.Decoder(State)


class Mover(Protocol):
    """What is asked of the transport."""

    async def hand_in(self, parcel: Parcel, key: str = "") -> None:
        """Store a parcel."""
        ...

    async def cancel(self, name: str) -> bool:
        """Take a parked parcel back."""
        ...


class Keys:
    """The keys of a namespace."""

    def __init__(self, mover: Mover, records: Records) -> None:
        self.mover = mover
        self.records = records
        self.streams = records.streams
        self.names = records.client.names

    async def read(self, key: str) -> tuple[int, State | None]:
        """Read what stands for a key, while that is kept."""
        found = await self.records.read(self.names.record("k", key))
        return found.sequence, None if found.value is None else _state.decode(found.value)

    async def write(self, key: str, state: State, expect: int) -> int:
        """Write it over what was read.

        Raises:
            Mismatch: Somebody else has.
        """
        left = timedelta(milliseconds=max(1, state.until - self.records.now()))
        return await self.records.write(self.names.record("k", key), pack(state), left, expect=expect)

    async def admit(self, admission: Admission) -> str:
        """Publish a parcel, or not, and return the id that stands for its key."""
        parcel = admission.parcel
        run = parcel.id.partition(":")[0]
        while True:
            sequence, state = await self.read(admission.key)
            if (await self.records.read(self.names.record("o", run, admission.outcome))).value is not None:
                # It lost its place, or has been decided: this is a repetition, which must not take another's place.
                return parcel.id if state is None else state.id
            if state is not None and state.id != parcel.id and (state.waiting or state.lost):
                await self._finish_for(admission.key, sequence, state)
                continue
            if state is not None and (state.id == parcel.id or admission.rule is Rule.FIRST):
                await self._finish(admission.key, sequence, state, parcel.suspect)
                return state.id
            try:
                await self._take_place(admission, sequence, state)
            except Mismatch:
                continue
            return parcel.id

    async def _take_place(self, admission: Admission, sequence: int, state: State | None) -> None:
        parcel, now = admission.parcel, self.records.now()
        lost: tuple[Loser, ...] = ()
        if state is not None and await self._replaceable(state, admission.rule):
            lost = (Loser(state.id, admission.outcome, admission.replaced),)
        until = now + max(1, round(admission.window.total_seconds() * 1000))
        waiting = Waiting(parcel.lane, parcel.body, parcel.due, parcel.suspect)
        new = State(parcel.id, until, now, waiting=waiting, lost=lost)
        written = await self.write(admission.key, new, sequence)
        hit("after_claim")
        await self._finish(admission.key, written, new, parcel.suspect)

    async def _replaceable(self, state: State, rule: Rule) -> bool:
        """Say whether what stands for a key waits still, so that it can lose its place."""
        if state.taken:
            return False
        root = self.names.of_id(state.id)
        kind = "d" if rule is Rule.DEBOUNCE else "*"
        return await self.streams.count(self.names.messages, f"{root}.{kind}.>") > 0

    async def _finish_for(self, key: str, sequence: int, state: State) -> None:
        """Do what somebody else has left undone, once there has been time to do it."""
        if state.since + PATIENCE > self.records.now():
            await asyncio.sleep(PAUSE)
            return
        mine = msgspec.structs.replace(state, since=self.records.now())
        try:
            sequence = await self.write(key, mine, sequence)
        except Mismatch:
            return
        await self._finish(key, sequence, mine, suspect=True)

    async def _finish(self, key: str, sequence: int, state: State, suspect: bool) -> None:
        """Publish what is to be published, tell and remove who lost the place, and note that it is done."""
        if (given := state.waiting) is not None:
            await self.mover.hand_in(Parcel(state.id, given.lane, given.body, given.due, suspect), key)
        for loser in state.lost:
            run = loser.id.partition(":")[0]
            await self.records.write_once(self.names.record("o", run, loser.outcome), loser.replaced)
            await self._remove(loser.id)
        current: State | None = state
        while current is not None and current.id == state.id and (current.waiting or current.lost):
            try:
                await self.write(key, msgspec.structs.replace(current, waiting=None, lost=()), sequence)
            except Mismatch:
                sequence, current = await self.read(key)
            else:
                return

    async def _remove(self, name: str) -> None:
        await self.mover.cancel(name)
        queued = await self.streams.last(self.names.messages, f"{self.names.of_id(name)}.q.>")
        if queued is not None:
            await self.streams.delete(self.names.messages, queued.sequence)

    async def claim(self, key: str, name: str, sequence: int) -> bool:
        """Take a parcel that stands, or stood, for a key; False when it has lost its place."""
        while True:
            expect, state = await self.read(key)
            if state is None or state.id != name:
                if state is not None and name in {loser.id for loser in state.lost}:
                    return False
                return await self.streams.at(self.names.messages, sequence) is not None
            if state.taken:
                return True
            try:
                await self.write(key, msgspec.structs.replace(state, taken=True, waiting=None), expect)
            except Mismatch:
                continue
            return True
