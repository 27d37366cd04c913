"""The tables, and opening a file that has them, or shall have them.

Each namespace has tables of its own, suffixed with its number: no index carries the namespace, and none sees another's.
"""

from __future__ import annotations

import sqlite3
from datetime import timedelta

from motet.errors import Rejected
from motet_sqlite.database import Database
from motet_sqlite.location import Location
from motet_sqlite.uptime import boot, uptime

__all__ = ["SCHEMA", "connect"]

SCHEMA = 1
APPLICATION = 0x4D6F7465
"""`PRAGMA application_id` of our files: "Mote"."""
OLDEST = (3, 35, 0)
"""The first SQLite with RETURNING."""
TABLES = """
CREATE TABLE {message} (  -- state: 0 ready, 1 parked, 2 held
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    lane TEXT NOT NULL,
    state INTEGER NOT NULL,
    body BLOB NOT NULL,
    due REAL,
    boot INTEGER,
    lease REAL,
    token INTEGER,
    deliveries INTEGER NOT NULL DEFAULT 0,
    strikes INTEGER NOT NULL DEFAULT 0,
    suspect INTEGER NOT NULL
);
CREATE INDEX {message}_ready ON {message} (lane) WHERE state = 0;
CREATE INDEX {message}_parked ON {message} (due) WHERE state = 1;
CREATE INDEX {message}_held ON {message} (boot, lease) WHERE state = 2;
CREATE TABLE {record} (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    expires REAL,
    made INTEGER
) WITHOUT ROWID;
CREATE INDEX {record}_expires ON {record} (expires) WHERE expires IS NOT NULL;
CREATE INDEX {record}_made ON {record} (made) WHERE made IS NOT NULL;
CREATE TABLE {barrier} (
    key TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    max_failed INTEGER NOT NULL,
    fast INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    arrived BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE {flag} (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL,
    segment TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    at REAL NOT NULL
);
CREATE TABLE {paused} (queue TEXT PRIMARY KEY) WITHOUT ROWID
"""


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
    """Return the namespace's number, made with its tables if need be."""
    with file.transaction():
        [(version,)] = file.rows("PRAGMA user_version")
        if version > SCHEMA:
            ours = f"this is {SCHEMA}: upgrade motet-sqlite"
            raise Rejected(f"{location.path}: its tables are of version {version}, {ours}")
        if version == 0:
            file.change(f"PRAGMA application_id={APPLICATION}")
            file.change(f"PRAGMA user_version={SCHEMA}")
            file.change("CREATE TABLE namespace (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
        if found := file.rows("SELECT number FROM namespace WHERE name = ?", namespace):
            # A write that changes nothing, so that a read-only file is found now: BEGIN IMMEDIATE lets it pass.
            file.change("DELETE FROM namespace WHERE number < 0")
            return int(found[0][0])
        [(number,)] = file.rows("INSERT INTO namespace (name) VALUES (?) RETURNING number", namespace)
        tables = Database(file.connection, number)
        for statement in TABLES.split(";"):
            tables.change(statement)
        return int(number)


def _recover(database: Database) -> None:
    """End leases that count from a start that is over, where the system has no name for its starts."""
    if not boot():
        database.change("UPDATE {message} SET lease = 0 WHERE state = 2 AND boot = 0 AND lease > ?", uptime() + 86400)
