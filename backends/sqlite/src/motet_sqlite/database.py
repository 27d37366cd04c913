"""One connection, bound to the tables of a namespace; few statements for many rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["Database", "array"]

CHUNKS = (64, 16, 4, 1)
"""Rows per INSERT. Every statement lets go of the GIL once, and a busy loop keeps it for up to 5 ms; 64 rows in one
statement take 3 us each, one by one 6 to 12 us."""


def array(values: Iterable[int | str]) -> str:
    """Write values for `IN (SELECT value FROM json_each(?))`: one statement text for any number of them."""
    return json.dumps(list(values), ensure_ascii=False)


class _Bound(dict[str, str]):
    """SQL as we write it, `{message}` for a table, to SQL as this namespace's tables are called."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def __missing__(self, sql: str) -> str:
        names = ("message", "record", "barrier", "flag", "paused")
        self[sql] = bound = sql.format(**{name: f"{name}_{self.number}" for name in names})
        return bound


class Database:
    """A connection for one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, number: int) -> None:
        self.connection = connection
        self._bound = _Bound(number)
        self._synchronous = ""

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read."""
        return self.connection.execute(self._bound[sql], values).fetchall()

    def change(self, sql: str, *values: object) -> int:
        """Write, and say how many rows it concerned."""
        return self.connection.execute(self._bound[sql], values).rowcount

    def insert(self, head: str, tail: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows between the words before and after `VALUES (...)`, many at a time."""
        if not rows:
            return
        one = f"({','.join('?' * len(rows[0]))})"
        start = 0
        for size in CHUNKS:
            sql = self._bound[f"{head} VALUES {','.join([one] * size)} {tail}"]
            while len(rows) - start >= size:
                values = [value for row in rows[start : start + size] for value in row]
                self.connection.execute(sql, values)
                start += size

    def sync(self, mode: str) -> None:
        """Choose how the next commits reach the disk; 2 us when it changes."""
        if mode != self._synchronous:
            self.connection.execute(f"PRAGMA synchronous={mode}")
            self._synchronous = mode

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write whole or not at all; waits for other writers."""
        self.connection.execute("BEGIN IMMEDIATE")
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
