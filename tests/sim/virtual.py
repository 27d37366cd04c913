"""Time, ids and dice of a simulated world: a loop whose waits take no time, and ports that a seed decides."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

__all__ = ["SeededIds", "SeededRng", "Stuck", "VirtualClock", "VirtualLoop"]

START = datetime(2026, 1, 1, tzinfo=UTC)
TURNS = 400_000
"""More turns of the loop than any sound schedule takes."""


class Stuck(Exception):
    """Nothing can happen any more, or far too much does."""


class Leap(selectors.BaseSelector):
    """Watches no file: a wait is over at once, and has taken as long as was asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = 0
        self.keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self.keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nobody waits for a time, and nobody can act")
        self.turns += 1
        if self.turns > TURNS:
            raise Stuck(f"no end after {TURNS} turns")
        if timeout > 0:
            self.now += timeout
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self.keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting costs nothing."""

    def __init__(self) -> None:
        self.leap = Leap()
        super().__init__(self.leap)

    def time(self) -> float:
        return self.leap.now


class VirtualClock:
    """A clock that shows the time of its loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.leap = loop.leap

    def now(self) -> datetime:
        return START + timedelta(seconds=self.leap.now)

    def monotonic(self) -> float:
        return self.leap.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await event.wait()


class SeededIds:
    """Ids that count; `last` is the newest."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.count = 0
        self.last = ""

    def new(self) -> str:
        self.count += 1
        self.last = f"{self.prefix}{self.count}"
        return self.last


class SeededRng:
    """The dice of a schedule, as the worker rolls them."""

    def __init__(self, rng: random.Random) -> None:
        self.roll = rng.random
