"""One connection, bound to the tables of a namespace; few statements for many rows."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from motet_sqlite.tables import NAMES
from motet_sqlite.values import text

__all__ = ["Database", "array", "is_busy"]

NUL = "\\u0000"
CHUNKS = (64, 16, 4, 1)
"""Rows per INSERT. Every statement lets go of the GIL once, and a busy loop keeps it for up to 5 ms; 64 rows in one
statement take 3 us each, one by one 6 to 12 us."""


def array(values: Iterable[int | str]) -> str:
    """Write values for `IN (SELECT value FROM json_each(?))`: one statement text for any number of them.

    Raises:
        UsageError: One of them has a NUL, where SQLite's JSON ends a text.
    """
    listed = list(values)
    written = msgspec.json.encode(listed).decode()
    if NUL in written:
        for value in listed:
            text(str(value))
    return written


SHORTEST, LONGEST = 0.0002, 0.001
"""Seconds between two looks at a file that another process has locked."""


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether somebody else has the file."""
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class _Bound(dict[str, str]):
    """SQL as we write it, `{message}` for a table, to SQL as this namespace's tables are called."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def __missing__(self, sql: str) -> str:
        self[sql] = bound = sql.format(**{name: f"{name}_{self.number}" for name in NAMES})
        return bound


class Database:
    """A connection for one thread at a time. It waits for a locked file by itself, at most for `patience` seconds."""

    def __init__(self, connection: sqlite3.Connection, number: int, patience: float = 0.0) -> None:
        self.connection = connection
        self.patience = patience
        self._bound = _Bound(number)
        self._synchronous = ""

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read."""
        return self._execute(self._bound[sql], values).fetchall()

    def change(self, sql: str, *values: object) -> int:
        """Write, and say how many rows it concerned."""
        return self._execute(self._bound[sql], values).rowcount

    def _execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self.connection.execute(sql, values)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or self.connection.in_transaction:
                raise
        return self._persist(sql, values)

    def _persist(self, sql: str, values: Sequence[Any]) -> sqlite3.Cursor:
        """Try again until the file is free.

        SQLite's own handler soon sleeps 50 to 100 ms, and starves beside a process that writes all the time: with four
        busy workers one of them got nothing for a second. Looking about twice a
        millisecond, the slowest settle of four that shared 60,000 messages took 70 ms.
        """
        give_up = time.monotonic() + self.patience
        while True:
            time.sleep(random.uniform(SHORTEST, LONGEST))  # noqa: S311 - it only spreads them
            try:
                return self.connection.execute(sql, values)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > give_up:
                    raise

    def insert(self, head: str, tail: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows between the words before and after `VALUES (...)`, many at a time."""
        if not rows:
            return
        one = f"({','.join('?' * len(rows[0]))})"
        start = 0
        for size in CHUNKS:
            if len(rows) - start < size:
                continue
            sql = self._bound[f"{head} VALUES {','.join([one] * size)} {tail}"]
            while len(rows) - start >= size:
                values = [value for row in rows[start : start + size] for value in row]
                self.connection.execute(sql, values)
                start += size

    def sync(self, mode: str) -> None:
        """Choose how the next commits reach the disk; 2 us when it changes."""
        if mode != self._synchronous:
            self._execute(f"PRAGMA synchronous={mode}")
            self._synchronous = mode

    @contextmanager
    def transaction(self) -> Generator[None, None, None]:
        """Write whole or not at all; waits for other writers."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            # SQLite itself has rolled back after some errors, a full disk among them.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
