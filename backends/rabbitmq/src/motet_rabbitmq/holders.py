"""Who holds which lock, and which uses of rates are in their window: one shard's for the whole namespace (H10)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from motet.ports import Busy, Grant, Holding, Lock
from motet_rabbitmq.calls import call
from motet_rabbitmq.state import State, Table

__all__ = ["Holders", "WireLock"]


class WireLock(Lock, frozen=True, array_like=True):
    """A lock that is asked for."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """A fence, or who is busy for how long."""

    fence: int = 0
    busy: str = ""
    after: timedelta = timedelta()

    @property
    def port(self) -> Grant | Busy:
        return Grant(self.fence) if self.fence else Busy(self.busy, self.after)


class Hold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One owner's share of one lock."""

    kind: str
    fence: int
    until: float
    lease: float


class Owner(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was granted to an owner: the locks it must find when it renews, and the rates it has spent."""

    fence: int
    until: float
    lease: float
    names: tuple[str, ...]
    spent: tuple[str, ...]


class Use(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One use of a rate."""

    at: float
    until: float


class Fence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last fence that was granted."""

    last: int
    until: None = None


class Holders:
    """What port L keeps. Fences come from one counter, so that each is greater than all before it (L2)."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.holds: Table[Hold] = Table(state, "h", Hold)
        self.owners: Table[Owner] = Table(state, "o", Owner)
        self.uses: Table[Use] = Table(state, "u", Use)
        self.fences: Table[Fence] = Table(state, "c", Fence)

    def expired(self, kind: str, first: str, second: str) -> None:
        """A lease or a window is over."""
        self.state.tables[kind].drop(first, second)

    def taken_over(self) -> None:
        """Extend every lease by its full length: while the shard had no owner nobody could renew (C7)."""
        now = self.state.now
        for lock, holds in list(self.holds.rows.items()):
            for name, hold in list(holds.items()):
                until = max(hold.until, now + hold.lease)
                self.holds.put(lock, name, msgspec.structs.replace(hold, until=until))
        for name, rows in list(self.owners.rows.items()):
            owner = rows[""]
            self.owners.put(name, "", msgspec.structs.replace(owner, until=max(owner.until, now + owner.lease)))

    @call()
    def acquire(self, locks: list[WireLock], name: str, lease: timedelta) -> Answer:
        """Take every lock, or none (L1)."""
        owner = self.owners.get(name)
        spent = () if owner is None else owner.spent
        busy = [(left, lock.name) for lock in locks if (left := self._busy(lock, name, spent)) is not None]
        if busy:
            left, which = max(busy)
            return Answer(0, which, timedelta(seconds=max(0.0, left)))
        fresh = owner is None or any(self._fresh(lock, name, spent) for lock in locks)
        fence = self._fence() if owner is None or fresh else owner.fence
        self._grant(locks, name, owner, fence, lease.total_seconds())
        return Answer(fence)

    def _fence(self) -> int:
        last = self.fences.get("fence")
        fence = 1 + (0 if last is None else last.last)
        self.fences.put("fence", "", Fence(fence))
        return fence

    def _grant(self, locks: Sequence[Lock], name: str, owner: Owner | None, fence: int, lease: float) -> None:
        now = self.state.now
        until = max(now + lease, 0.0 if owner is None else owner.until)
        names, spent = dict.fromkeys(owner.names if owner else ()), dict.fromkeys(owner.spent if owner else ())
        for lock in locks:
            if lock.kind != "rate":
                before = self.holds.get(lock.name, name)
                kind = "write" if before is not None and before.kind == "write" else lock.kind
                self.holds.put(lock.name, name, Hold(kind, fence, now + lease, lease))
                names[lock.name] = None
            elif lock.name not in spent:
                use = Use(now, now + lock.window.total_seconds())
                self.uses.put(lock.name, str(self.state.serial()), use)
                spent[lock.name] = None
        self.owners.put(name, "", Owner(fence, until, lease, tuple(names), tuple(spent)))

    def _busy(self, lock: Lock, name: str, spent: Sequence[str]) -> float | None:
        """Say for how long a lock cannot be had, if nobody lets go; None when it can."""
        now = self.state.now
        if lock.kind == "rate":
            window = lock.window.total_seconds()
            used = sorted(use.at for use in self.uses.of(lock.name).values() if use.at > now - window)
            return None if lock.name in spent or len(used) < lock.limit else used[-lock.limit] + window - now
        others = [hold for each, hold in self.holds.of(lock.name).items() if each != name]
        # Holders of another kind than was asked for are in the way: whoever changed the kind waits until they are gone.
        if lock.kind == "read":
            others = [hold for hold in others if hold.kind != "read"]
        ends = sorted(hold.until for hold in others)
        if lock.kind == "semaphore" and all(hold.kind == "semaphore" for hold in others):
            return None if len(ends) < lock.limit else ends[-lock.limit] - now
        return ends[-1] - now if ends else None

    def _fresh(self, lock: Lock, name: str, spent: Sequence[str]) -> bool:
        """Say whether an owner would get what it has not: then its fence must be above those of all before it."""
        if lock.kind == "rate":
            return lock.name not in spent
        hold = self.holds.get(lock.name, name)
        return hold is None or hold.kind not in (lock.kind, "write")

    @call()
    def renew(self, name: str, lease: timedelta) -> bool:
        """Renew what is left of an owner's locks; False when anything was lost (L4)."""
        owner = self.owners.get(name)
        if owner is None:
            return False
        seconds = lease.total_seconds()
        until = self.state.now + seconds
        self.owners.put(name, "", msgspec.structs.replace(owner, until=until, lease=seconds))
        held = 0
        for lock in owner.names:
            hold = self.holds.get(lock, name)
            if hold is not None:
                held += 1
                self.holds.put(lock, name, msgspec.structs.replace(hold, until=until, lease=seconds))
        return held == len(owner.names)

    @call()
    def release(self, names: list[str]) -> None:
        """Let go of all that owners hold."""
        for name in names:
            owner = self.owners.get(name)
            if owner is not None:
                self.owners.drop(name)
                for lock in owner.names:
                    self.holds.drop(lock, name)

    @call()
    def held(self, prefix: str) -> list[Holding]:
        now = self.state.now
        return [
            Holding(lock, name, hold.fence, timedelta(seconds=max(0.0, hold.until - now)))
            for lock, holds in sorted(self.holds.rows.items())
            if lock.startswith(prefix)
            for name, hold in sorted(holds.items())
        ]

    @call()
    def free(self, lock: str) -> bool:
        """Take a lock away from its holders (L10)."""
        names = list(self.holds.of(lock))
        for name in names:
            self.holds.drop(lock, name)
        return bool(names)
