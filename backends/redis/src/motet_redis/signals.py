"""Port N on Redis: whoever decides a run that is waited for leaves its id in a list of each client that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError

from motet.engine.wellformed import check_text
from motet.errors import MotetError
from motet.ports import Signals
from motet_redis.client import Client
from motet_redis.errors import BROKEN
from motet_redis.pipe import Pipe
from motet_redis.scripts import Script

__all__ = ["RedisSignals", "RedisWakeups"]

SIGNALS = Script.of("signals")
ASK = 5
"""Seconds after which the server answers for lack of news: a connection that is silent for longer is dead."""
REFRESH = 20.0
"""Seconds after which a waiter tells the server again that it waits; it is forgotten after 60."""


class RedisSignals:
    """One client's signals."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.waiting: dict[str, set[RedisWakeups]] = {}
        self.left: list[str] = []
        self.listener: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def subscribe(self, run: str) -> AsyncGenerator[RedisWakeups, None]:
        self.client.check()
        check_text(run)
        wakeups = RedisWakeups(self, run)
        self.waiting.setdefault(run, set()).add(wakeups)
        if self.listener is None:
            self.listener = asyncio.get_running_loop().create_task(self._listen())
        try:
            await wakeups.announce()
            yield wakeups
        finally:
            listeners = self.waiting[run]
            listeners.discard(wakeups)
            if not listeners:
                del self.waiting[run]
                if not self.left:
                    asyncio.get_running_loop().call_soon(self._leave)
                self.left.append(run)

    def _leave(self) -> None:
        """Say for which runs nobody waits any more. What gets lost is forgotten by the server after a minute."""
        runs, self.left = self.left, []
        if gone := [run for run in runs if run not in self.waiting]:
            self.client.tell(SIGNALS, "leave", self.client.id, *gone)

    async def _listen(self) -> None:
        """Wake waiters, until there have been none for seconds; whatever may have been missed wakes all."""
        pipe: Pipe | None = None
        try:
            found: Any = None
            while (self.waiting or found is not None) and not self.client.closed:
                try:
                    if pipe is None or pipe.broken is not None:
                        if pipe is not None:
                            await self.client.leave(pipe)
                        pipe = await self.client.own()
                        self.wake_all()
                    async with asyncio.timeout(ASK + self.client.timeout):
                        found = await pipe.call("BLPOP", f"{self.client.tag}:rp:{self.client.id}", ASK)
                    run: bytes | None = None if found is None else found[1]
                    while run is not None:
                        self.wake(run.decode())
                        run = await pipe.call("LPOP", f"{self.client.tag}:rp:{self.client.id}")
                except (RedisError, *BROKEN) as error:
                    if pipe is not None:
                        pipe.breaks(error)
                    await asyncio.sleep(0.1)
        finally:
            self.listener = None
            if pipe is not None:
                await self.client.leave(pipe)

    def wake(self, run: str) -> None:
        """Wake those who wait for a run."""
        for wakeups in self.waiting.get(run, ()):
            wakeups.event.set()

    def wake_all(self) -> None:
        """Wake everybody."""
        for run in self.waiting:
            self.wake(run)

    async def close(self) -> None:
        """Stop listening."""
        if self.listener is not None:
            self.listener.cancel()
            with suppress(asyncio.CancelledError):
                await self.listener


class RedisWakeups:
    """A level: set by a decision, cleared by a wait."""

    def __init__(self, signals: RedisSignals, run: str) -> None:
        self.signals = signals
        self.run = run
        self.event: asyncio.Event = asyncio.Event()
        self.announced: float = 0.0

    async def announce(self) -> None:
        """Tell the server who waits."""
        await self.signals.client.call(SIGNALS, "wait", self.signals.client.id, self.run)
        self.announced = asyncio.get_running_loop().time()

    async def wait(self, limit: timedelta) -> None:
        self.signals.client.check()
        loop = asyncio.get_running_loop()
        give_up = loop.time() + limit.total_seconds()
        while not self.event.is_set() and (left := give_up - loop.time()) > 0:
            if loop.time() > self.announced + REFRESH:
                with suppress(MotetError):
                    await self.announce()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.event.wait(), min(left, REFRESH))
        self.event.clear()


_: type[Signals] = RedisSignals
