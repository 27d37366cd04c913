"""What SQLite's errors mean to a caller: one table. No `sqlite3` exception crosses a port."""

from __future__ import annotations

import sqlite3

from motet.errors import BackendError, MotetError, Rejected, Unavailable

__all__ = ["of_environment", "translate"]

TABLE: dict[int, tuple[type[BackendError], str]] = {
    sqlite3.SQLITE_BUSY: (Unavailable, "another process holds the database for too long; it may be trying a backup"),
    sqlite3.SQLITE_LOCKED: (Unavailable, "another connection holds a table; try again"),
    sqlite3.SQLITE_PROTOCOL: (Unavailable, "too many processes open the database at once; try again"),
    sqlite3.SQLITE_INTERRUPT: (Unavailable, "the operation was interrupted; try again"),
    sqlite3.SQLITE_NOMEM: (Unavailable, "out of memory"),
    sqlite3.SQLITE_IOERR: (Unavailable, "the disk failed to read or write; look at the system's log"),
    sqlite3.SQLITE_READONLY: (
        Rejected,
        "the file or its directory is read-only for this user: grant write access to both",
    ),
    sqlite3.SQLITE_PERM: (Rejected, "no permission: grant this user write access to the file and its directory"),
    sqlite3.SQLITE_FULL: (Rejected, "the disk, or the user's quota, is full: make space; nothing was lost"),
    sqlite3.SQLITE_CORRUPT: (
        Rejected,
        "the file is damaged: stop all workers, then save it with `sqlite3 FILE .recover`",
    ),
    sqlite3.SQLITE_NOTADB: (Rejected, "the file is not an SQLite database: choose another path"),
    sqlite3.SQLITE_CANTOPEN: (Rejected, "the file cannot be opened: is the path a directory, or access denied?"),
    sqlite3.SQLITE_SCHEMA: (Rejected, "the tables were changed by somebody else: restart with matching versions"),
    sqlite3.SQLITE_ERROR: (Rejected, "the tables are not those of this version: were they dropped or changed by hand?"),
    sqlite3.SQLITE_TOOBIG: (Rejected, "a value is larger than SQLite can store"),
}
"""By primary result code. A code that is not here, and any error about a value, means the value cannot be stored."""

ENVIRONMENT = frozenset(TABLE) - {sqlite3.SQLITE_TOOBIG}


def code_of(error: BaseException) -> int | None:
    """Return the primary result code; the extended one has it in its lowest byte."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def of_environment(error: BaseException) -> bool:
    """Say whether the file or machine is at fault, so that doing the rest of a batch one by one would not help."""
    return code_of(error) in ENVIRONMENT


def translate(error: BaseException, path: str) -> MotetError:
    """Return what to raise in place of an error; the original becomes its cause."""
    if isinstance(error, MotetError):
        return error
    kind, advice = TABLE.get(code_of(error) or -1, (Rejected, "a value in it cannot be stored"))
    ours = kind(f"{path}: {advice} ({type(error).__name__}: {error})")
    ours.__cause__ = error
    return ours
