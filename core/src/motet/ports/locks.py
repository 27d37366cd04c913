"""Locks and limits: leased, owned, fenced, all or nothing. A backend offers them by the capability `locks`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, Protocol

import msgspec

__all__ = ["Lock", "Locks"]


class Lock(msgspec.Struct, frozen=True):
    """One thing to hold: exclusively, as a reader, as one of `limit` holders, or as one of `limit` uses per window."""

    name: str
    kind: Literal["mutex", "read", "write", "semaphore", "rate"]
    limit: int = 1
    window: timedelta = timedelta()


class Locks(Protocol):
    """Holds locks for owners.

    L1. `acquire` takes all of the locks or none; a rate limit is not spent when another lock is busy.
    L2. The fencing token it answers grows with every grant of a lock; None means busy.
    L3. A lock that is not renewed is free after its lease, a dead reader's too.
    L4. Only its owner can renew or release a lock; releasing tries every lock even if one fails.
    L5. A rate limit holds in every window of its length, by the backend's clock.
    """

    async def acquire(self, locks: Sequence[Lock], owner: str, lease: timedelta) -> int | None:
        """Take every lock, or none."""
        ...

    async def renew(self, owner: str, lease: timedelta) -> bool:
        """Renew all that the owner holds; False when any of it was lost."""
        ...

    async def release(self, owner: str) -> None:
        """Let go of all that the owner holds."""
        ...
