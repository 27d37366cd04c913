"""Clocks for tests and for eager runs: time passes only when somebody says so, or when everybody waits."""

from __future__ import annotations

import heapq
import itertools
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel

__all__ = ["JumpingClock", "VirtualClock"]

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTLE = 20
"""Turns of the loop that sleepers get to act before time moves on."""


class VirtualClock:
    """A clock that stands still until `advance`."""

    def __init__(self, start: datetime = START) -> None:
        self.start = start
        self.elapsed: float = 0.0
        self.sleepers: list[tuple[float, int, anyio.Event]] = []
        self.counter: itertools.count[int] = itertools.count()

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        await self.wait(anyio.Event(), seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        if event.is_set() or seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        heapq.heappush(self.sleepers, (self.elapsed + seconds, next(self.counter), event))
        await event.wait()

    async def advance(self, seconds: float) -> None:
        """Let time pass; who is due on the way acts at its own time."""
        end = self.elapsed + seconds
        await self.settle()
        while self.sleepers and self.sleepers[0][0] <= end:
            self.step()
            await self.settle()
        self.elapsed = end

    async def run(self) -> None:
        """Let time move on whenever everybody waits for it; never returns."""
        while True:
            await self.settle()
            if self.sleepers:
                self.step()

    def step(self) -> None:
        """Move to the next sleeper, and wake it."""
        moment, _, event = heapq.heappop(self.sleepers)
        if not event.is_set():
            self.elapsed = max(self.elapsed, moment)
            event.set()

    async def settle(self) -> None:
        """Let everybody who can act do so."""
        for _ in range(SETTLE):
            await anyio.lowlevel.checkpoint()


class JumpingClock(VirtualClock):
    """A clock for eager runs: a wait that nobody ends takes a few turns of the loop, whatever its length."""

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        for _ in range(SETTLE):
            if event.is_set():
                return
            await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(0.001):
            await event.wait()
            return
        self.elapsed: float = self.elapsed + seconds
