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
from motet_nats.news import News

__all__ = ["NatsSignals", "NatsWakeups"]


class NatsSignals:
    """One client's signals."""

    def __init__(self, client: Client, news: News) -> None:
        self.client = client
        self.news = news
        self.waiting: dict[str, set[NatsWakeups]] = {}
        self.listening: dict[str, tuple[Link, int]] = {}

    @asynccontextmanager
    async def subscribe(self, run: str) -> AsyncGenerator[NatsWakeups, None]:
        self.client.check()
        check_text(run)
        name = token(run)
        wakeups = NatsWakeups(self, name)
        self.waiting.setdefault(name, set()).add(wakeups)
        self.news.expect(name)
        try:
            # Each sees to it: who came first may have been told that nobody answers, or not be done.
            await self.client.tell(lambda link: self._listen(link, name))
            yield wakeups
        finally:
            listeners = self.waiting[name]
            listeners.discard(wakeups)
            if not listeners:
                del self.waiting[name]
                self.news.forget(name)
                await self._leave(name)

    async def _listen(self, link: Link, name: str) -> None:
        on, _ = self.listening.get(name, (None, 0))
        if name in self.waiting and on is not link:
            number = await link.listen(f"{self.client.names.news}.{name}.*", self._hear)
            self.listening[name] = link, number
            self.news.sure.discard(name)

    async def _leave(self, name: str) -> None:
        if name in self.listening:
            link, number = self.listening.pop(name)
            with suppress(*BROKEN):
                await link.ignore(number)

    def _hear(self, message: Message) -> None:
        run, name = message.subject.split(".")[3:5]
        self.news.tell(run, name, message.data)
        self.wake(run)

    async def follow(self, link: Link) -> None:
        """Listen on a new connection; whatever may have been missed wakes all."""
        for name in list(self.waiting):
            await self._listen(link, name)
            self.wake(name)

    async def ensure(self, name: str) -> bool:
        """Have the server listen to us for certain; False when it may not have done so before.

        Whoever looks first, as everybody does, need not wait for that: the answer proves it.
        """
        if name in self.news.sure:
            return True
        await self.client.keep_asking(lambda link: link.caught_up())
        self.news.sure.add(name)
        return False

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

    def __init__(self, signals: NatsSignals, name: str) -> None:
        self.signals = signals
        self.name = name
        self.event: asyncio.Event = asyncio.Event()

    async def wait(self, limit: timedelta) -> None:
        self.signals.client.check()
        with suppress(TimeoutError):
            async with asyncio.timeout(limit.total_seconds()):
                if await self.signals.ensure(self.name):
                    await self.event.wait()
        self.event.clear()


_: type[Signals] = NatsSignals
