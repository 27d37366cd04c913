"""What the file needs now and then: what has expired removed, pages given back, the log cut short (M5)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial

from motet_sqlite import holders, workers
from motet_sqlite.database import Database, is_busy

__all__ = ["upkeep"]

SLICE = 500
PAGES = 200
FLAGS_KEPT = 3600.0
EXPIRED = (
    (0.0, "DELETE FROM {record} WHERE key IN (SELECT key FROM {record} WHERE expires <= ? LIMIT ?)"),
    (0.0, "DELETE FROM {counter} WHERE key IN (SELECT key FROM {counter} WHERE expires <= ? LIMIT ?)"),
    (0.0, "DELETE FROM {admission} WHERE key IN (SELECT key FROM {admission} WHERE expires <= ? LIMIT ?)"),
    (0.0, "DELETE FROM {former} WHERE id IN (SELECT id FROM {former} WHERE expires <= ? LIMIT ?)"),
    (FLAGS_KEPT, "DELETE FROM {flag} WHERE seq IN (SELECT seq FROM {flag} WHERE at <= ? LIMIT ?)"),
)
"""How long rows are kept after the time that they name, and what removes a slice of them."""
Removal = Callable[[Database, float, int], int]


def upkeep(database: Database, now: Callable[[], float]) -> Iterator[None]:
    """Do one round in short transactions (1 ms each, the checkpoint 7 ms); callers come in at every `yield`."""
    removals: list[Removal] = [partial(_expired, kept, sql) for kept, sql in EXPIRED]
    removals += [holders.forget, workers.forget]
    for removal in removals:
        while _remove(database, removal, now()) == SLICE:
            yield
        yield
    # A script, because `execute` stops after the first of its steps, and each frees one page.
    database.connection.executescript(f"PRAGMA incremental_vacuum({PAGES})")
    yield
    # Whoever reads keeps us from it; next time, then. Waiting for a long reader would stop every caller.
    try:
        database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise


def _remove(database: Database, removal: Removal, now: float) -> int:
    with database.transaction():
        return removal(database, now, SLICE)


def _expired(kept: float, sql: str, database: Database, now: float, limit: int) -> int:
    return database.change(sql, now - kept, limit)
