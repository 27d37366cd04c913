"""The tables, and opening a file that has them, or shall have them.

Each namespace has tables of its own, suffixed with its number: no index carries the namespace, and none sees another's.
"""

from __future__ import annotations

import sqlite3
from datetime import timedelta

from motet.errors import Rejected
from motet_sqlite.database import Database
from motet_sqlite.location import Location
from motet_sqlite.tables import SCHEMA, VERSIONS
from motet_sqlite.uptime import boot, uptime

__all__ = ["connect"]

APPLICATION = 0x4D6F7465
"""`PRAGMA application_id` of our files: "Mote"."""
LEASED = ("{message}", "{holder}", "{spent}", "{worker}")
OLDEST = (3, 35, 0)
"""The first SQLite with RETURNING."""


def connect(location: Location, namespace: str, timeout: timedelta) -> Database:
    """Open a connection, for any one thread at a time; make or check the tables.

    Raises:
        Rejected: The library is too old, the file is somebody else's, or of a newer Motet.
        sqlite3.Error: The file cannot be opened or written.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise Rejected(f"SQLite {sqlite3.sqlite_version} is too old, 3.35 is needed: use a newer Python or system")
    connection = sqlite3.connect(
        location.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    file = Database(connection, 0, timeout.total_seconds())
    try:
        _prepare(file, location)
        database = Database(connection, _namespace(file, location, namespace), file.patience)
        _recover(database)
        database.sync(location.synchronous)
    except BaseException:
        connection.close()
        raise
    return database


def _prepare(file: Database, location: Location) -> None:
    # In this order: another process may be making the file, and commits both at once.
    [(others,)] = file.rows("SELECT count(*) FROM sqlite_master")
    [(application,)] = file.rows("PRAGMA application_id")
    if others and application != APPLICATION:
        raise Rejected(f"{location.path}: this database belongs to another program: choose another path")
    if not others:
        # Only before the first table (M5).
        file.change("PRAGMA auto_vacuum=INCREMENTAL")
    if file.rows("PRAGMA journal_mode=WAL") != [("wal",)]:
        raise Rejected(f"{location.path}: the file system cannot share memory, so no WAL: use a local disk")
    file.change("PRAGMA cache_size=-8000")
    file.rows(f"PRAGMA journal_size_limit={64 * 1024 * 1024}")


def _namespace(file: Database, location: Location, namespace: str) -> int:
    """Return the namespace's number, made with its tables if need be; the tables of an older file are completed."""
    with file.transaction():
        [(version,)] = file.rows("PRAGMA user_version")
        if version > SCHEMA:
            ours = f"this is {SCHEMA}: upgrade motet-sqlite"
            raise Rejected(f"{location.path}: its tables are of version {version}, {ours}")
        if version == 0:
            file.change(f"PRAGMA application_id={APPLICATION}")
            file.change("CREATE TABLE namespace (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
        if version < SCHEMA:
            for (number,) in file.rows("SELECT number FROM namespace"):
                _make_tables(file, number, version)
            file.change(f"PRAGMA user_version={SCHEMA}")
        if found := file.rows("SELECT number FROM namespace WHERE name = ?", namespace):
            # A write that changes nothing, so that a read-only file is found now: BEGIN IMMEDIATE lets it pass.
            file.change("DELETE FROM namespace WHERE number < 0")
            return int(found[0][0])
        [(number,)] = file.rows("INSERT INTO namespace (name) VALUES (?) RETURNING number", namespace)
        _make_tables(file, number, 0)
        return int(number)


def _make_tables(file: Database, number: int, version: int) -> None:
    """Make the tables that came after a version."""
    tables = Database(file.connection, number)
    for statements in VERSIONS[version:]:
        for statement in statements.split(";"):
            tables.change(statement)


def _recover(database: Database) -> None:
    """End leases that count from a start that is over, where the system has no name for its starts."""
    if not boot():
        for table in LEASED:
            database.change(f"UPDATE {table} SET lease = 0 WHERE boot = 0 AND lease > ?", uptime() + 86400)  # noqa: S608 - names of ours
