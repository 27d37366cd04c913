"""Records in a stream: one message for each, written where nothing is, or over what was read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from motet.errors import MotetError
from motet.failpoints import hit
from motet_nats.client import Client
from motet_nats.connection import Question
from motet_nats.errors import Mismatch, refuse
from motet_nats.streams import Stored, Streams, seconds
from motet_nats.wire import VERSION, Kept, pack, read_kept

__all__ = ["Found", "Records"]


class Found(msgspec.Struct, frozen=True, gc=False):
    """What is under a subject: the sequence to replace, and the value, None when it has expired or never was."""

    sequence: int
    value: bytes | None


NOTHING = Found(0, None)


class Records:
    """Keeps values under subjects. Time to live is exact here, and rounded up by the server, which removes."""

    def __init__(self, client: Client, streams: Streams) -> None:
        self.client = client
        self.streams = streams

    def now(self) -> int:
        """Milliseconds since 1970."""
        return round(self.client.settings.clock.now().timestamp() * 1000)

    async def read(self, subject: str) -> Found:
        """Read a record."""
        while True:
            stored = await self.streams.last(self.client.names.records, subject)
            if stored is None:
                return NOTHING
            kept = self.alive(stored)
            if kept is None:
                return Found(stored.sequence, None)
            if not kept.parts:
                return Found(stored.sequence, kept.value)
            parts = [
                await self.streams.last(self.client.names.records, self._part(subject, kept.nonce, number))
                for number in range(kept.parts)
            ]
            if all(parts):
                return Found(stored.sequence, b"".join(part.data for part in parts if part is not None))
            again = await self.streams.last(self.client.names.records, subject)
            if again is not None and again.sequence == stored.sequence:
                return Found(stored.sequence, None)  # its parts were swept, and it will be

    def alive(self, stored: Stored) -> Kept | None:
        """Read what is stored, unless its time is over."""
        kept = read_kept(stored.data)
        return kept if not kept.until or kept.until > self.now() else None

    async def write(
        self, subject: str, value: bytes, ttl: timedelta | None = None, *, expect: int | None = None
    ) -> int:
        """Write a record, over whatever is there or over the sequence that is expected; return its own.

        Raises:
            Mismatch: Somebody else has written, or this call on an attempt whose answer was lost.
        """
        end = until(self.now(), ttl)
        headers = None if ttl is None else {"Nats-TTL": seconds(ttl)}
        kept = Kept(VERSION, end, value)
        if len(value) + 100 > self.client.room:
            kept = await self._split(subject, value, end, headers)
        return await self.client.publish(subject, pack(kept), expect=expect, headers=headers, once=expect is not None)

    async def write_all(self, new: Sequence[tuple[str, bytes, timedelta | None]]) -> list[bytes | MotetError | None]:
        """Write many where nothing is, as `write_once` does, and answer for each."""
        room, now = self.client.room - 100, self.now()
        asked = [self._asked(now, *each) for each in new if len(each[1]) <= room]
        answers = iter(await self.client.ask_all(asked))

        async def settled(each: tuple[str, bytes, timedelta | None]) -> bytes | MotetError | None:
            try:
                answer = next(answers) if len(each[1]) <= room else Mismatch(0, "")
                if isinstance(answer, Mismatch):
                    return await self.write_once(*each)
                refuse((answer,), self.client.location.name)
            except MotetError as error:
                return error
            return None

        return [await settled(each) for each in new]

    def _asked(self, now: int, subject: str, value: bytes, ttl: timedelta | None) -> Question:
        headers = None if ttl is None else {"Nats-TTL": seconds(ttl)}
        kept = Kept(VERSION, until(now, ttl), value)
        return self.client.storing(subject, pack(kept), expect=0, headers=headers, once=True)

    async def _split(self, subject: str, value: bytes, end: int, headers: dict[str, str] | None) -> Kept:
        nonce, size = self.client.nonce(), self.client.room - 100
        pieces = [value[first : first + size] for first in range(0, len(value), size)]
        for number, piece in enumerate(pieces):
            await self.client.publish(self._part(subject, nonce, number), piece, headers=headers)
            hit("between_parts")
        return Kept(VERSION, end, b"", len(pieces), nonce)

    def _part(self, subject: str, nonce: str, number: int) -> str:
        """Where a part of a large value is: with its run, so that both are swept at once."""
        run = subject.split(".")[4]
        return f"{self.client.names.kept}.v.{run}.{nonce}-{number}"

    async def write_once(self, subject: str, value: bytes, ttl: timedelta | None = None) -> bytes | None:
        """Write where nothing is, and return None; or return what is there."""
        expect = 0
        while True:
            try:
                await self.write(subject, value, ttl, expect=expect)
            except Mismatch:
                found = await self.read(subject)
                if found.value is not None:
                    return found.value
                expect = found.sequence
            else:
                return None

    async def add(self, subject: str, amount: int, ttl: timedelta | None = None) -> int:
        """Add to a number, which begins at 0, and return the sum."""
        while True:
            found = await self.read(subject)
            total = int(found.value or b"0") + amount
            try:
                await self.write(subject, str(total).encode(), ttl, expect=found.sequence)
            except Mismatch:
                continue
            return total

    async def remove(self, subject: str) -> None:
        """Forget a record."""
        await self.streams.purge(self.client.names.records, subject)


def until(now: int, ttl: timedelta | None) -> int:
    """When a record goes."""
    return 0 if ttl is None else now + max(0, round(ttl.total_seconds() * 1000))
