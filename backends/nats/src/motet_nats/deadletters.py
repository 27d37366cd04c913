"""Port X on JetStream: a record for each letter; what is gone leaves a note of where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from motet.engine.deadletters import agrees
from motet.engine.wellformed import check_count, check_each, check_parcels, check_text
from motet.failpoints import hit
from motet.message import DeadLetter, Parcel
from motet.ports import DeadLetters, Filter
from motet_nats.errors import Mismatch
from motet_nats.gathering import together
from motet_nats.records import Records
from motet_nats.transport import NatsTransport
from motet_nats.wire import pack, read_kept

__all__ = ["NatsDeadLetters"]

REMEMBER = timedelta(hours=1)
"""How long it is known where a letter was, for whoever lists from there on (X3)."""
PATIENCE = 1000
"""Milliseconds that whoever replays a letter has for it; then somebody else does."""
PAUSE = 0.02


class State(msgspec.Struct, frozen=True, array_like=True):
    """A letter, or where it was. `born` is a sequence, and tells those of one moment apart.

    `claimed` is when somebody began to replay it.
    """

    at: datetime
    born: int
    letter: DeadLetter | None
    claimed: int = 0


_state = msgspec.msgpack.Decoder(State)


class Entry(msgspec.Struct, frozen=True):
    """A letter that was read, and the sequence to replace."""

    sequence: int
    state: State

    @property
    def place(self) -> tuple[datetime, int]:
        """Where it stands in the order."""
        return self.state.at, self.state.born or self.sequence


class NatsDeadLetters:
    """One client's dead letters."""

    def __init__(self, transport: NatsTransport, records: Records) -> None:
        self._transport = transport
        self._records = records
        self._names = records.client.names

    def _subject(self, name: str) -> str:
        return self._names.record("x", name)

    async def _read(self, name: str) -> Entry | None:
        found = await self._records.read(self._subject(name))
        return None if found.value is None else Entry(found.sequence, _state.decode(found.value))

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        self._records.client.check()
        check_each(letters, DeadLetter)
        await together([self._bury(letter) for letter in letters])

    async def _bury(self, letter: DeadLetter) -> None:
        while True:
            found = await self._records.read(self._subject(letter.id))
            if found.value is not None and _state.decode(found.value).letter is not None:
                return
            try:
                await self._records.write(
                    self._subject(letter.id), pack(State(letter.at, 0, letter)), expect=found.sequence
                )
            except Mismatch:
                continue
            return

    async def get(self, ids: Sequence[str]) -> list[DeadLetter | None]:
        self._records.client.check()
        check_text(*ids)
        found = await together([self._read(name) for name in ids])
        return [None if entry is None else entry.state.letter for entry in found]

    async def _chosen(self, filter: Filter) -> list[tuple[Entry, DeadLetter]]:
        """List what a filter chooses, the oldest first."""
        found: list[tuple[Entry, DeadLetter]] = []
        for stored in await self._records.streams.scan(self._names.records, f"{self._names.kept}.x.*"):
            kept = read_kept(stored.data)
            value = (await self._records.read(stored.subject)).value if kept.parts else kept.value
            if value is None:
                continue
            entry = Entry(stored.sequence, _state.decode(value))
            letter = entry.state.letter
            if letter is not None and agrees(letter, filter):
                found.append((entry, letter))
        return sorted(found, key=lambda each: each[0].place)

    async def page(self, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        self._records.client.check()
        check_each((filter,), Filter)
        check_count(limit, "limit")
        found = (await self._chosen(filter))[::-1]
        if after is not None and (last := await self._read(after)) is not None:
            found = [each for each in found if each[0].place < last.place]
        return [letter for _, letter in found[:limit]]

    async def replay(self, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        self._records.client.check()
        check_text(*(name for name, _ in replays))
        check_parcels(parcel for _, parcel in replays)
        # Whoever is cancelled after it has claimed a letter still publishes.
        return await asyncio.shield(together([self._replay(name, parcel) for name, parcel in replays]))

    async def _replay(self, name: str, parcel: Parcel) -> bool:
        while True:
            entry = await self._read(name)
            if entry is None or entry.state.letter is None:
                return False
            now = self._records.now()
            if entry.state.claimed + PATIENCE > now:
                await asyncio.sleep(PAUSE)
                continue
            claimed = msgspec.structs.replace(entry.state, claimed=now, born=entry.place[1])
            try:
                sequence = await self._records.write(self._subject(name), pack(claimed), expect=entry.sequence)
            except Mismatch:
                continue
            # Somebody may have published it who died before the letter was removed.
            again = parcel.suspect or entry.state.claimed > 0
            hit("after_letter")
            await self._transport.publish([msgspec.structs.replace(parcel, suspect=again)])
            hit("after_replay")
            return await self._forget(name, Entry(sequence, claimed))

    async def _forget(self, name: str, entry: Entry) -> bool:
        """Leave a note in a letter's place; False when somebody else was there first."""
        note = State(entry.state.at, entry.place[1], None)
        try:
            await self._records.write(self._subject(name), pack(note), REMEMBER, expect=entry.sequence)
        except Mismatch:
            return False
        return True

    async def remove(self, ids: Sequence[str]) -> list[bool]:
        self._records.client.check()
        check_text(*ids)
        return await together([self._remove(name) for name in ids])

    async def _remove(self, name: str) -> bool:
        while True:
            entry = await self._read(name)
            if entry is None or entry.state.letter is None:
                return False
            if await self._forget(name, entry):
                return True

    async def purge(self, filter: Filter, limit: int) -> int:
        self._records.client.check()
        check_each((filter,), Filter)
        check_count(limit, "limit")
        chosen = (await self._chosen(filter))[:limit]
        return sum(await together([self._forget(letter.id, entry) for entry, letter in chosen]))


_: type[DeadLetters] = NatsDeadLetters
