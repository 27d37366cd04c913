"""Clocks for tests and for eager runs: time passes only when somebody says so, or when everybody waits."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel

from motet.ports.ambient import SystemClock

__all__ = ["JumpingClock", "VirtualClock"]

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTLE = 20
"""Turns of the loop that sleepers get to act before time moves on."""
LOOK = 0.001
"""Seconds for which one waits before it is asked again whether anybody is busy."""


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
    """A clock for eager runs: while nobody is `busy`, a wait takes a few turns of the loop, whatever its length.

    While somebody is, time passes as it does: a function that takes a second must not lose its lease to a leap.
    """

    def __init__(self, start: datetime = START) -> None:
        super().__init__(start)
        self.real: SystemClock = SystemClock()
        self.began: float = self.real.monotonic()
        self.busy: Callable[[], bool] = lambda: False

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return self.elapsed + self.real.monotonic() - self.began

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        give_up = self.monotonic() + seconds
        for _ in range(SETTLE):
            if event.is_set():
                return
            await anyio.lowlevel.checkpoint()
        while (left := give_up - self.monotonic()) > 0:
            with anyio.move_on_after(min(left, LOOK)):
                await event.wait()
                return
            if not self.busy():
                self.elapsed += max(0.0, give_up - self.monotonic())
