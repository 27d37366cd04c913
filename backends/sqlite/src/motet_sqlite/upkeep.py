"""What the file needs now and then: expired records and old flags removed, pages given back, the log cut short (M5)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from motet_sqlite.database import Database, is_busy

__all__ = ["upkeep"]

SLICE = 500
PAGES = 200
FLAGS_KEPT = 3600.0


def upkeep(database: Database, now: Callable[[], float]) -> Iterator[None]:
    """Do one round in short transactions (1 ms each, the checkpoint 7 ms); callers come in at every `yield`."""
    for sql in (
        "DELETE FROM {record} WHERE key IN (SELECT key FROM {record} WHERE expires <= ? LIMIT ?)",
        "DELETE FROM {flag} WHERE seq IN (SELECT seq FROM {flag} WHERE at <= ? LIMIT ?)",
    ):
        kept = FLAGS_KEPT if "flag" in sql else 0.0
        while _delete(database, sql, now() - kept) == SLICE:
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


def _delete(database: Database, sql: str, before: float) -> int:
    with database.transaction():
        return database.change(sql, before, SLICE)
