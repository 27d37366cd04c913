"""Attempts in progress: where each one runs, since when, and why it was given up."""

from __future__ import annotations

import enum

import anyio
import msgspec

from motet.message import Key, pack
from motet.ports import Delivery
from motet.worker.resolve import Job

__all__ = ["Attempt", "Reason", "Slot"]


class Reason(enum.Enum):
    """Why an attempt was given up before it had ended by itself."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LOST = "lease lost"
    STOP = "worker stops"


class Slot:
    """Where one delivery at a time is worked off. Whoever clears `delivery` answers for it."""

    __slots__ = ("attempt", "delivery", "scope", "wake")

    def __init__(self) -> None:
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self.wake: anyio.Event = anyio.Event()
        self.delivery: Delivery | None = None
        self.attempt: Attempt | None = None


class Attempt(msgspec.Struct, eq=False):
    """One execution of a job: in a slot, or in a thread when `slot` is None. `since` is None until it has begun."""

    job: Job
    slot: Slot | None
    noted: dict[Key, bytes]
    since: float | None = None
    reason: Reason | None = None

    def note(self, done: int, total: int) -> None:
        """Remember how far the task says it is; the latest word is written twice a second."""
        self.noted[Key(self.job.message.run, f"g.{self.job.place}")] = pack((done, total))

    def stopping(self) -> bool:
        """Say whether it has been given up; a thread can only be told."""
        return self.reason is not None

    def expired(self, now: float) -> bool:
        """Say whether its time is up; waiting for a thread or a process does not count."""
        limit = self.job.profile.timeout
        return limit is not None and self.since is not None and self.since + limit <= now
