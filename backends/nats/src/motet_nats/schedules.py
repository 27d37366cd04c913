"""Port C on JetStream. A record says what has fired and is not published yet, so that one write decides who fires."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import msgspec

from motet.engine.wellformed import check_aware, check_count, check_each, check_parcels, check_text
from motet.failpoints import hit
from motet.message import Parcel
from motet.options import Lane
from motet.ports import Schedule, Schedules
from motet_nats.errors import Mismatch
from motet_nats.gathering import together
from motet_nats.records import Records
from motet_nats.transport import NatsTransport
from motet_nats.wire import pack, read_kept

__all__ = ["NatsSchedules"]

PATIENCE = 1000
"""Milliseconds that whoever fires has for publishing; then somebody else does it."""


class Fired(msgspec.Struct, frozen=True, array_like=True):
    """A parcel that is to be published."""

    id: str
    lane: Lane
    body: bytes
    due: datetime | None
    suspect: bool


class State(msgspec.Struct, frozen=True, array_like=True):
    """A schedule as it is kept; `fired` at `since` is still to be published."""

    name: str
    due: datetime | None
    spec: bytes
    paused: bool
    version: int
    since: int = 0
    fired: tuple[Fired, ...] = ()

    def schedule(self) -> Schedule:
        """What its users see."""
        return Schedule(self.name, self.due, self.spec, self.paused, self.version)


_state = msgspec.msgpack.Decoder(State)


class NatsSchedules:
    """One client's schedules. What was read is remembered: after that only what has changed is asked for."""

    def __init__(self, transport: NatsTransport, records: Records) -> None:
        self._transport = transport
        self._records = records
        self._names = records.client.names

    def _subject(self, name: str) -> str:
        return self._names.record("s", name)

    async def _read(self, name: str) -> tuple[int, State | None]:
        found = await self._records.read(self._subject(name))
        return found.sequence, None if found.value is None else _state.decode(found.value)

    async def save(self, schedule: Schedule) -> Schedule | None:
        self._records.client.check()
        check_each((schedule,), Schedule)
        if schedule.due is not None:
            check_aware(schedule.due)
        while True:
            sequence, state = await self._read(schedule.name)
            if (0 if state is None else state.version) != schedule.version:
                return None if state is None else state.schedule()
            new = State(*msgspec.structs.astuple(schedule))
            new = msgspec.structs.replace(new, version=schedule.version + 1)
            if state is not None:
                new = msgspec.structs.replace(new, since=state.since, fired=state.fired)
            try:
                await self._records.write(self._subject(schedule.name), pack(new), expect=sequence)
            except Mismatch:
                continue
            return new.schedule()

    async def fire(self, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        self._records.client.check()
        check_text(name)
        check_parcels(parcels)
        check_aware(due)
        if following is not None:
            check_aware(following)
        fired = tuple(Fired(each.id, each.lane, each.body, each.due, each.suspect) for each in parcels)
        # Whoever is cancelled after the write that decides still publishes.
        return await asyncio.shield(self._fire(name, due, following, fired))

    async def _fire(self, name: str, due: datetime, following: datetime | None, fired: tuple[Fired, ...]) -> bool:
        while True:
            sequence, state = await self._read(name)
            if state is None or state.paused or state.due != due:
                if state is not None and state.fired:
                    await self._finish(sequence, state)
                return False
            if state.fired:
                await self._publish(state.fired, again=True)
            new = State(name, following, state.spec, False, state.version + 1, self._records.now(), fired)
            try:
                sequence = await self._records.write(self._subject(name), pack(new), expect=sequence)
            except Mismatch:
                continue
            hit("after_fire")
            await self._publish(fired)
            await self._done(sequence, new)
            return True

    async def _publish(self, fired: Sequence[Fired], *, again: bool = False) -> None:
        await self._transport.publish(
            [Parcel(each.id, each.lane, each.body, each.due, each.suspect or again) for each in fired]
        )

    async def _done(self, sequence: int, state: State) -> None:
        """Note that what was fired is published; if somebody has written since, that is for whoever reads it next."""
        with_nothing = msgspec.structs.replace(state, since=0, fired=())
        try:
            await self._records.write(self._subject(state.name), pack(with_nothing), expect=sequence)
        except Mismatch:
            return

    async def _finish(self, sequence: int, state: State) -> None:
        """Publish what somebody has fired who died over it."""
        if state.since + PATIENCE <= self._records.now():
            await self._publish(state.fired, again=True)
            await self._done(sequence, state)

    async def get(self, names: Sequence[str]) -> list[Schedule | None]:
        self._records.client.check()
        check_text(*names)
        found = await together([self._read(name) for name in names])
        return [None if state is None else state.schedule() for _, state in found]

    async def _all(self) -> list[tuple[int, State]]:
        stored = await self._records.streams.scan(self._names.records, f"{self._names.kept}.s.*")
        found: list[tuple[int, State]] = []
        for each in stored:
            kept = read_kept(each.data)
            if kept.parts:
                again = await self._records.read(each.subject)
                if again.value is not None:
                    found.append((again.sequence, _state.decode(again.value)))
            else:
                found.append((each.sequence, _state.decode(kept.value)))
        return found

    async def due(self, until: datetime, limit: int) -> list[Schedule]:
        self._records.client.check()
        check_aware(until)
        check_count(limit, "limit")
        found: list[tuple[datetime, str, Schedule]] = []
        for sequence, state in await self._all():
            if state.fired:
                await self._finish(sequence, state)
            if state.due is not None and state.due <= until and not state.paused:
                found.append((state.due, state.name, state.schedule()))
        return [schedule for _, _, schedule in sorted(found, key=lambda each: each[:2])[:limit]]

    async def page(self, after: str | None, limit: int) -> list[Schedule]:
        self._records.client.check()
        check_count(limit, "limit")
        found = sorted((state.schedule() for _, state in await self._all()), key=lambda each: each.name)
        return [each for each in found if after is None or each.name > after][:limit]

    async def remove(self, name: str) -> bool:
        self._records.client.check()
        check_text(name)
        return await self._records.streams.purge(self._names.records, self._subject(name)) > 0


_: type[Schedules] = NatsSchedules
