"""Which queues are paused: records that every client follows."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from motet.errors import DecodeError
from motet_nats.client import Client
from motet_nats.connection import Message
from motet_nats.link import Link
from motet_nats.names import plain, token
from motet_nats.records import Records
from motet_nats.streams import Stored, Streams
from motet_nats.wire import read_kept

__all__ = ["Pauses"]

PAUSED, RESUMED = b"1", b"0"
REMEMBER = timedelta(minutes=5)


class Pauses:
    """What this client knows of paused queues; where it would keep something back, it asks."""

    def __init__(self, client: Client, streams: Streams, records: Records) -> None:
        self.client = client
        self.streams = streams
        self.records = records
        self.known: set[str] = set()
        self.heard: dict[str, bool] = {}
        self.reading: asyncio.Lock = asyncio.Lock()
        self.fresh: bool = False
        self.changed: set[asyncio.Event] = set()
        self.subject: str = f"{client.names.kept}.p"

    async def follow(self, link: Link) -> None:
        """Listen on a new connection; what happened before is read when it is asked for."""
        self.fresh = False
        await link.listen(f"{self.subject}.*", self._hear)

    def _hear(self, message: Message) -> None:
        queue = plain(message.subject.rpartition(".")[2])
        try:
            paused = read_kept(message.data).value == PAUSED
        except DecodeError:
            return
        self.heard[queue] = paused
        self._note(queue, paused)
        for event in self.changed:
            event.set()

    def _note(self, queue: str, paused: bool) -> None:
        (self.known.add if paused else self.known.discard)(queue)

    def stopped(self, queue: str) -> bool:
        """Say whether a queue is paused, as far as was heard."""
        return queue in self.known

    async def holds(self, queue: str) -> bool:
        """Say whether a queue is paused."""
        if not self.fresh or self.reading.locked():
            await self.all()
        if queue in self.known:
            self.heard.pop(queue, None)
            found = await self.records.read(f"{self.subject}.{token(queue)}")
            if found.value != PAUSED and queue not in self.heard:
                self.known.discard(queue)
        return queue in self.known

    async def all(self) -> set[str]:
        """Read which queues are paused."""
        async with self.reading:
            self.fresh = True  # until there is another connection
            self.heard.clear()
            found: set[str] = set()
            for stored in await self._stored():
                kept = self.records.alive(stored)
                if kept is not None and kept.value == PAUSED:
                    found.add(plain(stored.subject.rpartition(".")[2]))
            self.known = found
            for queue, paused in self.heard.items():  # what is heard while we read is newer
                self._note(queue, paused)
            return set(self.known)

    async def _stored(self) -> list[Stored]:
        try:
            return await self.streams.scan(self.client.names.records, f"{self.subject}.*")
        except BaseException:
            self.fresh = False
            raise

    async def put(self, queue: str, paused: bool) -> None:
        """Pause or resume a queue."""
        subject = f"{self.subject}.{token(queue)}"
        await self.records.write(subject, PAUSED if paused else RESUMED, None if paused else REMEMBER)
