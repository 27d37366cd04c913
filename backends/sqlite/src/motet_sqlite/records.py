"""The record, barrier, counter and flag tables, read; and a run's part of them removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from motet.message import Key
from motet.ports import Barrier
from motet.program import Flag
from motet_sqlite.database import Database, array
from motet_sqlite.ledger import RUN, SEPARATOR, Slots, bounds, flat
from motet_sqlite.upkeep import FLAGS_KEPT
from motet_sqlite.values import refuse

__all__ = ["add", "barriers", "flags", "get", "names", "runs", "sweep"]

GREATEST = chr(0x10FFFF)
SWEEPS = (
    "DELETE FROM {record} WHERE key IN (SELECT key FROM {record} WHERE key >= ? AND key < ? LIMIT ?)",
    "DELETE FROM {barrier} WHERE key IN (SELECT key FROM {barrier} WHERE key >= ? AND key < ? LIMIT ?)",
    "DELETE FROM {counter} WHERE key IN (SELECT key FROM {counter} WHERE key >= ? AND key < ? LIMIT ?)",
)
LEFT = (
    "SELECT 1 FROM {record} WHERE key >= ? AND key < ? LIMIT 1",
    "SELECT 1 FROM {barrier} WHERE key >= ? AND key < ? LIMIT 1",
    "SELECT 1 FROM {counter} WHERE key >= ? AND key < ? LIMIT 1",
)
NUMBER = "SELECT made FROM {record} WHERE key = ?"


def get(database: Database, keys: Sequence[Key], now: float) -> list[bytes | None]:
    """Read records that have not expired."""
    wanted = [flat(key) for key in keys]
    sql = (
        "SELECT key, value FROM {record} WHERE key IN (SELECT value FROM json_each(?))"
        " AND (expires IS NULL OR expires > ?)"
    )
    found = dict(database.rows(sql, array(wanted), now))
    return [found.get(key) for key in wanted]


def add(database: Database, key: Key, amount: int, ttl: timedelta | None, now: float) -> int:
    """Add to a counter, which begins at 0, again after its time to live; it lives as long as this addition says."""
    rows = database.rows(
        "SELECT value FROM {counter} WHERE key = ? AND (expires IS NULL OR expires > ?)", flat(key), now
    )
    # Added here, because SQLite would go on with a float where its integers end.
    total = (rows[0][0] if rows else 0) + amount
    if type(total) is not int:
        refuse("integer", amount)
    database.change(
        "INSERT OR REPLACE INTO {counter} (key, value, expires) VALUES (?, ?, ?)",
        flat(key),
        total,
        None if ttl is None else now + ttl.total_seconds(),
    )
    return total


def barriers(database: Database, keys: Sequence[Key]) -> list[Barrier | None]:
    """Read barriers."""
    wanted = [flat(key) for key in keys]
    sql = (
        "SELECT key, size, max_failed, fast, failed, arrived FROM {barrier}"
        " WHERE key IN (SELECT value FROM json_each(?))"
    )
    found = {key: Slots(*values).state() for key, *values in database.rows(sql, array(wanted))}
    return [found.get(key) for key in wanted]


def flags(database: Database, since: str | None, now: float) -> tuple[str, list[Flag]]:
    """Read the flags after a cursor, which is the number of the last flag that was seen."""
    start = int(since or 0)
    rows = database.rows(
        "SELECT seq, run, segment, first, last FROM {flag} WHERE seq > ? AND at > ? ORDER BY seq",
        start,
        now - FLAGS_KEPT,
    )
    if rows:
        start = rows[-1][0]
    return str(start), [Flag(*values) for _, *values in rows]


def names(database: Database, run: str, prefix: str, now: float) -> list[str]:
    """List a run's records by the beginning of their name."""
    first = flat(Key(run, prefix))
    rows = database.rows(
        "SELECT key FROM {record} WHERE key >= ? AND key <= ? AND (expires IS NULL OR expires > ?) ORDER BY key",
        first,
        first + GREATEST,
        now,
    )
    return [key[len(run) + 1 :] for (key,) in rows]


def sweep(database: Database, run: str, limit: int) -> bool:
    """Remove at most so many of a run's records, barriers and counters; True when none is left (S8)."""
    first, last = bounds(run)
    for sql in SWEEPS:
        limit -= database.change(sql, first, last, max(0, limit))
    return not any(database.rows(sql, first, last) for sql in LEFT)


def runs(database: Database, before: str | None, limit: int, now: float) -> list[tuple[str, bytes]]:
    """List runs, newest first."""
    sql = (
        "SELECT key, value FROM {record} WHERE made IS NOT NULL AND made < ? AND (expires IS NULL OR expires > ?)"
        " ORDER BY made DESC LIMIT ?"
    )
    rows = database.rows(sql, _place(database, before), now, limit)
    return [(key[: -len(SEPARATOR + RUN)], value) for key, value in rows]


def _place(database: Database, before: str | None) -> int:
    """Return the number below which a page starts."""
    if before is None:
        return 2**62
    name = flat(Key(before, RUN))
    if found := database.rows(NUMBER, name):
        return int(found[0][0])
    # Swept since: ids that we make sort by time, so the next lower one is the place.
    lower = database.rows(
        "SELECT made FROM {record} WHERE key < ? AND made IS NOT NULL ORDER BY key DESC LIMIT 1", name
    )
    return int(lower[0][0]) + 1 if lower else 0
