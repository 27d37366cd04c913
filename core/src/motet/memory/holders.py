"""Who holds which lock of a memory broker, and which uses of rates are still in their window."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

from motet.ports import Busy, Clock, Grant, Holding, Lock

__all__ = ["Holders"]


class Hold:
    """One owner's share of one lock."""

    __slots__ = ("fence", "kind", "until")

    def __init__(self, kind: str, fence: int, until: float) -> None:
        self.kind: str = kind
        self.fence: int = fence
        self.until: float = until


class Owner:
    """What was granted to an owner: the locks it must find when it renews, and the rates it has spent."""

    __slots__ = ("fence", "names", "spent", "until")

    def __init__(self) -> None:
        self.fence: int = 0
        self.until: float = 0.0
        self.names: set[str] = set()
        self.spent: set[str] = set()


class Holders:
    """What port L keeps. Fences come from one counter, so that each is greater than all before it (L2)."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.locks: dict[str, dict[str, Hold]] = {}
        self.owners: dict[str, Owner] = {}
        self.uses: dict[str, deque[tuple[float, float]]] = {}
        self.fences: itertools.count[int] = itertools.count(1)
        self.next_expiry: float = float("inf")

    def acquire(self, locks: Sequence[Lock], name: str, lease: timedelta) -> Grant | Busy:
        """Take every lock, or none (L1)."""
        now = self.turn()
        owner = self.owners.get(name) or Owner()
        busy = [(left, lock.name) for lock in locks if (left := self.busy(lock, name, owner, now)) is not None]
        if busy:
            left, which = max(busy)
            return Busy(which, timedelta(seconds=left))
        if not owner.fence or any(self.fresh(lock, name, owner) for lock in locks):
            owner.fence = next(self.fences)
        until = now + lease.total_seconds()
        for lock in locks:
            if lock.kind == "rate":
                self.spend(lock, owner, now)
            else:
                self.hold(lock, name, owner, until)
        owner.until = max(owner.until, until)
        self.owners[name] = owner
        self.next_expiry = min(self.next_expiry, until)
        return Grant(owner.fence)

    def busy(self, lock: Lock, name: str, owner: Owner, now: float) -> float | None:
        """Say for how long a lock cannot be had, if nobody lets go; None when it can."""
        if lock.kind == "rate":
            window = lock.window.total_seconds()
            used = [at for at, _ in self.uses.get(lock.name, ()) if at > now - window]
            if lock.name in owner.spent or len(used) < lock.limit:
                return None
            return used[-lock.limit] + window - now
        others = [hold for each, hold in self.locks.get(lock.name, {}).items() if each != name]
        # Holders of another kind than was asked for are in the way: whoever changed the kind waits until they are gone.
        if lock.kind == "read":
            others = [hold for hold in others if hold.kind != "read"]
        ends = sorted(hold.until for hold in others)
        if lock.kind == "semaphore" and all(hold.kind == "semaphore" for hold in others):
            return None if len(ends) < lock.limit else ends[-lock.limit] - now
        return ends[-1] - now if ends else None

    def fresh(self, lock: Lock, name: str, owner: Owner) -> bool:
        """Say whether an owner would get what it has not: then its fence must be above those of all before it."""
        if lock.kind == "rate":
            return lock.name not in owner.spent
        hold = self.locks.get(lock.name, {}).get(name)
        return hold is None or hold.kind not in (lock.kind, "write")

    def hold(self, lock: Lock, name: str, owner: Owner, until: float) -> None:
        holds = self.locks.setdefault(lock.name, {})
        before = holds.get(name)
        kind = "write" if before is not None and before.kind == "write" else lock.kind
        holds[name] = Hold(kind, owner.fence, until)
        owner.names.add(lock.name)

    def spend(self, lock: Lock, owner: Owner, now: float) -> None:
        if lock.name not in owner.spent:
            end = now + lock.window.total_seconds()
            self.uses.setdefault(lock.name, deque()).append((now, end))
            owner.spent.add(lock.name)
            self.next_expiry = min(self.next_expiry, end)

    def renew(self, name: str, lease: timedelta) -> bool:
        """Renew what is left of an owner's locks; False when anything was lost (L4)."""
        until = self.turn() + lease.total_seconds()
        owner = self.owners.get(name)
        if owner is None:
            return False
        owner.until = until
        held = [hold for lock in owner.names if (hold := self.locks.get(lock, {}).get(name)) is not None]
        for hold in held:
            hold.until = until
        return len(held) == len(owner.names)

    def release(self, name: str) -> None:
        """Let go of all that an owner holds."""
        owner = self.owners.pop(name, None)
        for lock in owner.names if owner is not None else ():
            self.let_go(lock, name)

    def let_go(self, lock: str, name: str) -> None:
        holds = self.locks.get(lock, {})
        holds.pop(name, None)
        if not holds:
            self.locks.pop(lock, None)

    def held(self, prefix: str) -> list[Holding]:
        """List who holds which lock (L9)."""
        now = self.turn()
        return [
            Holding(lock, name, hold.fence, timedelta(seconds=hold.until - now))
            for lock, holds in sorted(self.locks.items())
            if lock.startswith(prefix)
            for name, hold in sorted(holds.items())
        ]

    def free(self, lock: str) -> bool:
        """Take a lock away from its holders (L10)."""
        self.turn()
        return self.locks.pop(lock, None) is not None

    def turn(self) -> float:
        """Let time pass, and say what it is: forget leases and windows that are over."""
        now = self.clock.monotonic()
        if now < self.next_expiry:
            return now
        for lock, holds in list(self.locks.items()):
            for name in [name for name, hold in holds.items() if hold.until <= now]:
                self.let_go(lock, name)
        for rate, uses in list(self.uses.items()):
            while uses and uses[0][1] <= now:
                uses.popleft()
            if not uses:
                del self.uses[rate]
        self.owners = {name: owner for name, owner in self.owners.items() if owner.until > now}
        ends = [hold.until for holds in self.locks.values() for hold in holds.values()]
        ends += [uses[0][1] for uses in self.uses.values()] + [owner.until for owner in self.owners.values()]
        self.next_expiry = min(ends, default=float("inf"))
        return now
