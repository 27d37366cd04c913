"""Barriers: the server counts what has arrived, by subjects. A slot arrives once, with its first failures."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from motet.failpoints import hit
from motet.message import Key
from motet.ports import Barrier
from motet.program import Arrival, Open
from motet_nats.client import Client
from motet_nats.errors import Mismatch
from motet_nats.records import Records
from motet_nats.streams import Streams

__all__ = ["Barriers"]

MOST = 10_000
"""Barriers that a client knows to have been made; whether one is there still is asked after each arrival."""


class Barriers:
    """The barriers of all runs."""

    def __init__(self, client: Client, streams: Streams, records: Records) -> None:
        self.client = client
        self.streams = streams
        self.records = records
        self.stream: str = client.names.records
        self.made: set[str] = set()
        self.waiting: dict[str, list[asyncio.Future[bool]]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def open(self, given: Open) -> None:
        """Make a barrier, unless there is one (S6)."""
        start = self._start(given.key)
        subject = f"{start}.s.{given.size}.{given.max_failed}.{int(given.fast)}"
        with suppress(Mismatch):
            await self.client.publish(subject, b"", expect=0, within=f"{start}.s.>")

    def _start(self, key: Key) -> str:
        return self.client.names.record("b", *key)

    async def _made(self, start: str) -> tuple[int, int, bool] | None:
        """Read how a barrier was opened."""
        stored = await self.streams.last(self.stream, f"{start}.s.>")
        if stored is None:
            return None
        size, allowed, fast = stored.subject.split(".")[-3:]
        return int(size), int(allowed), fast == "1"

    async def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        """Mark a slot, and say what the server counts then."""
        start = self._start(key)
        if not await self._exists(start):
            return None
        mine = 0
        with suppress(Mismatch):
            mine = await self.client.publish(
                f"{start}.a.{slot}.{failed}", b"", expect=0, within=f"{start}.a.{slot}.*", once=True
            )
        hit("after_slot")
        made, arrived, good = await asyncio.gather(
            self._made(start),
            self.streams.count(self.stream, f"{start}.a.*.*"),
            self.streams.count(self.stream, f"{start}.a.*.0"),
        )
        if made is None:
            # It was swept meanwhile: whoever comes late leaves nothing behind (C13).
            self.made.discard(start)
            if mine:
                await self.streams.delete(self.stream, mine)
            return None
        size, allowed, fast = made
        failures = 0 if arrived == good else await self._failures(start)
        return Arrival(size, arrived, failures, allowed, fast)

    async def _exists(self, start: str) -> bool:
        """Say whether a barrier was made. All who arrive at once wait for one answer, and go on in their order (P6)."""
        if start in self.made:
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        if start in self.waiting:
            self.waiting[start].append(future)
        else:
            self.waiting[start] = [future]
            task = loop.create_task(self._ask(start))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return await future

    async def _ask(self, start: str) -> None:
        try:
            found = await self._made(start) is not None
        except BaseException as error:
            for future in self.waiting.pop(start):
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # who asked may have gone away
            if not isinstance(error, Exception):
                raise
        else:
            self._go_on(start, found)

    def _go_on(self, start: str, found: bool) -> None:
        """Let those go on who wait; who comes before they do comes after them."""
        going, self.waiting[start] = self.waiting[start], []
        for future in going:
            if not future.done():
                future.set_result(found)
        if going:
            asyncio.get_running_loop().call_soon(self._go_on, start, found)
            return
        del self.waiting[start]
        if found:  # else it may be made yet
            if len(self.made) >= MOST:
                self.made.clear()
            self.made.add(start)

    async def _failures(self, start: str) -> int:
        subjects = await self.streams.subjects(self.stream, f"{start}.a.*.*")
        return sum(int(subject.rpartition(".")[2]) for subject in subjects)

    async def read(self, key: Key) -> Barrier | None:
        """Read a barrier whole."""
        start = self._start(key)
        made = await self._made(start)
        if made is None:
            return None
        arrived = [each.subject.split(".")[-2:] for each in await self.streams.scan(self.stream, f"{start}.a.*.*")]
        size, allowed, fast = made
        slots = tuple(int(slot) for slot, _ in arrived)
        return Barrier(size, slots, sum(int(failed) for _, failed in arrived), allowed, fast)
