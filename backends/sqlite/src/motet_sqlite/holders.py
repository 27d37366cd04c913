"""Who holds which lock, and which uses of rates are still in their window. The caller has the transaction.

Leases count by the boot clock, as messages' do: what was granted in another start of the machine is over. A use of a
rate is kept with the wall time as well, so that a day's budget is not new after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import attrs

from motet.ports import Busy, Grant, Holding, Lock
from motet_sqlite.database import Database, array
from motet_sqlite.uptime import boot, uptime

__all__ = ["acquire", "forget", "free", "held", "release", "renew"]

GREATEST = chr(0x10FFFF)
SHARED = frozenset(("read", "semaphore"))


@attrs.frozen
class Claim:
    """What an owner would have of a lock: `fence` when it has it already, `wait` in seconds when it cannot."""

    lock: Lock
    fence: int = 0
    wait: float | None = None


def acquire(database: Database, locks: Sequence[Lock], owner: str, lease: timedelta, wall: float) -> Grant | Busy:
    """Take every lock, or none (L1)."""
    now = uptime()
    claims = [_claim(database, lock, owner, now, wall) for lock in _distinct(locks)]
    if busy := [(claim.wait, claim.lock.name) for claim in claims if claim.wait is not None]:
        wait, name = max(busy)
        return Busy(name, timedelta(seconds=max(0.0, wait)))
    fences = [claim.fence for claim in claims]
    until = now + lease.total_seconds()
    _prolong(database, owner, until)
    if fences and all(fences):
        # All of it is held already (L8).
        return Grant(max(fences))
    [(fence,)] = database.rows("UPDATE {fence} SET last = last + 1 RETURNING last")
    for claim in claims:
        if claim.lock.kind != "rate":
            _hold(database, claim.lock, owner, fence, until)
        elif not claim.fence:
            _spend(database, claim.lock, owner, fence, (now, until, wall))
    return Grant(fence)


def _distinct(locks: Sequence[Lock]) -> list[Lock]:
    """Leave out what is asked for twice; of a reader and a writer of one lock the writer counts."""
    chosen: dict[str, Lock] = {}
    for lock in locks:
        if lock.name not in chosen or lock.kind == "write":
            chosen[lock.name] = lock
    return list(chosen.values())


def _claim(database: Database, lock: Lock, owner: str, now: float, wall: float) -> Claim:
    return (
        _claim_use(database, lock, owner, now, wall) if lock.kind == "rate" else _claim_hold(database, lock, owner, now)
    )


def _claim_hold(database: Database, lock: Lock, owner: str, now: float) -> Claim:
    rows = database.rows(
        "SELECT owner, kind, fence, lease FROM {holder} WHERE name = ? AND boot = ? AND lease > ?",
        lock.name,
        boot(),
        now,
    )
    mine = next(((kind, fence) for who, kind, fence, _ in rows if who == owner), None)
    if mine is not None and mine[0] in (lock.kind, "write"):
        return Claim(lock, mine[1])
    # Whoever asks for a lock by another kind than its holders waits until they are gone.
    ends = sorted(end for who, kind, _, end in rows if who != owner and (kind != lock.kind or kind != "read"))
    room = lock.limit if lock.kind == "semaphore" and all(row[1] == "semaphore" for row in rows) else 1
    return Claim(lock) if len(ends) < room else Claim(lock, wait=ends[-room] - now)


def _claim_use(database: Database, lock: Lock, owner: str, now: float, wall: float) -> Claim:
    mine = database.rows(
        "SELECT fence FROM {spent} WHERE owner = ? AND name = ? AND boot = ? AND lease > ?",
        owner,
        lock.name,
        boot(),
        now,
    )
    if mine:
        return Claim(lock, mine[0][0])
    # Uses are numbered, so the one that must have left the window is found by a seek, not by counting.
    last = _last_use(database, lock.name)
    rows = database.rows(
        "SELECT boot, used, at FROM {spent} WHERE name = ? AND number = ?", lock.name, last - lock.limit + 1
    )
    if not rows:
        return Claim(lock)
    started, used, at = rows[0]
    age = now - used if started == boot() else wall - at
    left = lock.window.total_seconds() - age
    # Where the machine has no name for its starts, or somebody set the clock back, an age says nothing.
    return Claim(lock, wait=left) if left > 0 and age >= 0 else Claim(lock)


def _last_use(database: Database, name: str) -> int:
    [(last,)] = database.rows("SELECT coalesce(max(number), 0) FROM {spent} WHERE name = ?", name)
    return int(last)


def _hold(database: Database, lock: Lock, owner: str, fence: int, until: float) -> None:
    # A writer that asks as a reader too goes on as what it is.
    database.change(
        "INSERT INTO {holder} (name, owner, kind, fence, boot, lease) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name, owner) DO UPDATE SET fence = excluded.fence, boot = excluded.boot, lease = excluded.lease,"
        " kind = CASE WHEN kind = 'write' THEN kind ELSE excluded.kind END",
        lock.name,
        owner,
        lock.kind,
        fence,
        boot(),
        until,
    )


def _spend(database: Database, lock: Lock, owner: str, fence: int, times: tuple[float, float, float]) -> None:
    used, lease, at = times
    # A use of an earlier grant stays in its window, and is nobody's.
    database.change("UPDATE {spent} SET owner = NULL WHERE owner = ? AND name = ?", owner, lock.name)
    database.change(
        "INSERT INTO {spent} (name, number, owner, fence, boot, used, lease, at, span)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        lock.name,
        _last_use(database, lock.name) + 1,
        owner,
        fence,
        boot(),
        used,
        lease,
        at,
        lock.window.total_seconds(),
    )


def renew(database: Database, owner: str, lease: timedelta) -> bool:
    """Renew what is left of an owner's locks; False when anything of it was lost (L4)."""
    now = uptime()
    left = [
        started == boot() and end > now
        for table in ("{holder}", "{spent}")
        for started, end in database.rows(f"SELECT boot, lease FROM {table} WHERE owner = ?", owner)  # noqa: S608
    ]
    if any(left):
        _prolong(database, owner, now + lease.total_seconds())
    return bool(left) and all(left)


def _prolong(database: Database, owner: str, until: float) -> None:
    for table in ("{holder}", "{spent}"):
        database.change(
            f"UPDATE {table} SET lease = ? WHERE owner = ? AND boot = ? AND lease > ?",  # noqa: S608
            until,
            owner,
            boot(),
            uptime(),
        )


def release(database: Database, owners: Iterable[str]) -> None:
    """Let go of all that owners hold; uses of rates are not given back (L5)."""
    listed = array(owners)
    database.change("DELETE FROM {holder} WHERE owner IN (SELECT value FROM json_each(?))", listed)
    database.change("UPDATE {spent} SET owner = NULL WHERE owner IN (SELECT value FROM json_each(?))", listed)


def held(database: Database, prefix: str) -> list[Holding]:
    """List the holders of locks, by name."""
    now = uptime()
    rows = database.rows(
        "SELECT name, owner, fence, lease FROM {holder} WHERE name >= ? AND name <= ? AND boot = ? AND lease > ?"
        " ORDER BY name, owner",
        prefix,
        prefix + GREATEST,
        boot(),
        now,
    )
    return [Holding(name, owner, fence, timedelta(seconds=lease - now)) for name, owner, fence, lease in rows]


def free(database: Database, name: str) -> bool:
    """Take a lock away. The rows stay, as what their owners have lost."""
    sql = "UPDATE {holder} SET lease = 0 WHERE name = ? AND boot = ? AND lease > ?"
    return database.change(sql, name, boot(), uptime()) > 0


def forget(database: Database, wall: float, limit: int) -> int:
    """Remove a slice of what is over; of an owner that still holds something, what it has lost is remembered."""
    now = uptime()
    holders = database.change(
        "DELETE FROM {holder} WHERE (name, owner) IN (SELECT name, owner FROM {holder} AS one"
        " WHERE (boot <> ? OR lease <= ?)"
        " AND NOT EXISTS (SELECT 1 FROM {holder} AS other WHERE other.owner = one.owner AND boot = ? AND lease > ?)"
        " AND NOT EXISTS (SELECT 1 FROM {spent} AS other WHERE other.owner = one.owner AND boot = ? AND lease > ?)"
        " LIMIT ?)",
        *(boot(), now) * 3,
        limit,
    )
    uses = database.change(
        "DELETE FROM {spent} WHERE (name, number) IN (SELECT name, number FROM {spent} AS one"
        " WHERE (boot = ? AND used + span <= ? AND (owner IS NULL OR lease <= ?)) OR (boot <> ? AND at + span <= ?)"
        " LIMIT ?)",
        boot(),
        now,
        now,
        boot(),
        wall,
        limit,
    )
    return max(holders, uses)
