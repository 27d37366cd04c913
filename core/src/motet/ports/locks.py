"""Locks and limits: leased, owned, fenced, all or nothing. A backend offers them by the capability `locks`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, Protocol, TypeAlias

import msgspec

__all__ = ["Busy", "Grant", "Holding", "Lock", "Locks"]


class Lock(msgspec.Struct, frozen=True):
    """One thing to hold: exclusively, as a reader, as one of `limit` holders, or as one of `limit` uses per window.

    All who name a lock must ask for the same kind, readers and writers of one lock apart.
    """

    name: str
    kind: Literal["mutex", "read", "write", "semaphore", "rate"]
    limit: int = 1
    window: timedelta = timedelta()


class Grant(msgspec.Struct, frozen=True):
    """All of the locks are held. What a former holder does later carries a smaller `fence`."""

    fence: int


class Busy(msgspec.Struct, frozen=True):
    """None of the locks is held. `after` is when asking again may help, if nobody lets go before: only a hint."""

    name: str
    after: timedelta


class Holding(msgspec.Struct, frozen=True):
    """Who holds a lock. `left` is what remains of the lease."""

    name: str
    owner: str
    fence: int
    left: timedelta


Answer: TypeAlias = Grant | Busy


class Locks(Protocol):
    """Holds locks for owners. An owner is one attempt of one task: its name is never used by another.

    L1. `acquire` takes all of the locks or none; a rate limit is not spent when another lock is busy (R47).
    L2. A fence is greater than every fence that any of its locks was granted with before; renewing keeps it. An owner
        that takes one lock more is granted all of them anew.
    L3. A lock that is not renewed is free after its lease, a dead reader's too. A renewed one is held.
    L4. Only its owner can renew or release a lock. Renewing answers False when anything of it was lost.
    L5. A rate limit holds in every window of its length, by the backend's clock; a use is never given back (R48).
    L6. A mutex has one holder. Any number of readers, or one writer, hold a lock of theirs.
    L7. A semaphore has at most `limit` holders; a place is free as soon as one of them lets go.
    L8. Acquiring again what the owner holds renews it, and answers the same fence; a rate is not spent a second time.
    L9. `held` lists the holders of locks by the beginning of their name; rates have none.
    L10. `free` takes a lock from whoever holds it; that owner is told so when it renews.
    """

    async def acquire(self, locks: Sequence[Lock], owner: str, lease: timedelta) -> Answer:
        """Take every lock, or none."""
        ...

    async def renew(self, owner: str, lease: timedelta) -> bool:
        """Renew all that the owner holds; False when any of it was lost."""
        ...

    async def release(self, owner: str) -> None:
        """Let go of all that the owner holds."""
        ...

    async def held(self, prefix: str) -> list[Holding]:
        """List who holds which lock, by name."""
        ...

    async def free(self, name: str) -> bool:
        """Take a lock away from its holders; False when it had none."""
        ...
