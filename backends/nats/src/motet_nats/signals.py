"""Port N on JetStream: the server tells of every record of a run once it is stored, to whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from motet.engine.wellformed import check_text
from motet.ports import Signals
from motet_nats.client import Client
from motet_nats.connection import Message
from motet_nats.errors import BROKEN
from motet_nats.link import Link
from motet_nats.names import token

__all__ = ["NatsSignals", "NatsWakeups"]


class NatsSignals:
    """One client's signals."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.waiting: dict[str, set[NatsWakeups]] = {}
        self.listening: dict[str, tuple[Link, int]] = {}

    @asynccontextmanager
    async def subscribe(self, run: str) -> AsyncGenerator[NatsWakeups, None]:
        self.client.check()
        check_text(run)
        wakeups = NatsWakeups(self)
        name = token(run)
        self.waiting.setdefault(name, set()).add(wakeups)
        try:
            # Each sees to it: who came first may have been told that nobody answers, or not be done.
            await self.client.keep_asking(lambda link: self._listen(link, name))
            yield wakeups
        finally:
            listeners = self.waiting[name]
            listeners.discard(wakeups)
            if not listeners:
                del self.waiting[name]
                await self._leave(name)

    async def _listen(self, link: Link, name: str) -> None:
        on, _ = self.listening.get(name, (None, 0))
        if name in self.waiting and on is not link:
            number = await link.listen(f"{self.client.names.news}.{name}.*", self._hear)
            self.listening[name] = link, number
        await link.caught_up()

    async def _leave(self, name: str) -> None:
        if name in self.listening:
            link, number = self.listening.pop(name)
            with suppress(*BROKEN):
                await link.ignore(number)

    def _hear(self, message: Message) -> None:
        self.wake(message.subject.split(".")[3])

    async def follow(self, link: Link) -> None:
        """Listen on a new connection; whatever may have been missed wakes all."""
        for name in list(self.waiting):
            await self._listen(link, name)
            self.wake(name)

    def wake(self, name: str) -> None:
        """Wake those who wait for a run."""
        for wakeups in self.waiting.get(name, ()):
            wakeups.event.set()

    def close(self) -> None:
        """Let nobody wait for what cannot come."""
        for name in self.waiting:
            self.wake(name)


class NatsWakeups:
    """A level: set by a decision, cleared by a wait."""

    def __init__(self, signals: NatsSignals) -> None:
        self.signals = signals
        self.event: asyncio.Event = asyncio.Event()

    async def wait(self, limit: timedelta) -> None:
        self.signals.client.check()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.event.wait(), limit.total_seconds())
        self.event.clear()


_: type[Signals] = NatsSignals
