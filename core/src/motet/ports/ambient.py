"""Time, chance and ids as ports, so that tests and the simulator own them; and the real ones."""

from __future__ import annotations

import os
import random
import time
from binascii import b2a_base64
from datetime import UTC, datetime
from typing import Protocol

import anyio

from motet.identity import shorten

__all__ = ["Clock", "Ids", "RandomIds", "Rng", "SystemClock", "SystemRng"]


class Clock(Protocol):
    """Tells the time, and waits for it."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump, from an arbitrary start."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds of this clock."""
        ...

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        """Return when the event is set, at the latest after so many seconds of this clock."""
        ...


class Ids(Protocol):
    """Makes ids of runs."""

    def new(self) -> str:
        """Return an id that nobody else has: 22 base62 characters, later ones greater within a process's clock."""
        ...


class Rng(Protocol):
    """Rolls dice for jitter."""

    def roll(self) -> float:
        """Return a number in [0, 1)."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await event.wait()


LETTERS: bytes = bytes.maketrans(b"+/", b"mt")
DRAWN = 64
"""Ids at a time; their bytes are a whole number of the threes of base64."""


class RandomIds:
    """Ids of milliseconds and 83 random bits, much as in UUID version 7: 8 characters and 14.

    The 14 are base64 with two letters in place of its two signs, which are so twice as likely as the others: that
    costs a sixteenth of a bit a character. They are drawn 64 at a time: to ask the system for each took 0.9 us an id.
    """

    def __init__(self) -> None:
        self._last = 0, ""
        self._drawn: list[str] = []
        self._process = 0

    def new(self) -> str:
        milliseconds = time.time_ns() // 1_000_000
        known, prefix = self._last
        if known != milliseconds:
            prefix = shorten(milliseconds, 8)
            self._last = milliseconds, prefix
        if self._process != os.getpid():  # a forked child would give the ids that its parent gives
            self._drawn, self._process = [], os.getpid()
        try:
            return prefix + self._drawn.pop()
        except IndexError:
            letters = b2a_base64(os.urandom(DRAWN * 14 * 6 // 8)).translate(LETTERS).decode()
            drawn = [letters[first : first + 14] for first in range(0, DRAWN * 14, 14)]
            name = drawn.pop()
            self._drawn = drawn
            return prefix + name


class SystemRng:
    """The operating system's dice."""

    def roll(self) -> float:
        return random.random()
