"""Waking whoever waits for a run."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

__all__ = ["Signals", "Wakeups"]


class Wakeups(Protocol):
    """One waiter's subscription."""

    async def wait(self, limit: timedelta) -> None:
        """Return when something was decided in the run since the last wait, or after `limit`; sometimes for nothing."""
        ...


class Signals(Protocol):
    """Wakes waiters; lossy, so a waiter looks again by itself.

    N1. A decision recorded after `subscribe` wakes the waiter, also from another process, normally within 50 ms. It is
        a record written with `Once.ends`, by whichever port, or that of a parcel that lost its place (T23).
    N2. A lost signal costs time, never correctness.
    N3. A waiter that is cancelled leaves nothing behind.
    """

    def subscribe(self, run: str) -> AbstractAsyncContextManager[Wakeups]:
        """Listen to a run for as long as the context is open."""
        ...
