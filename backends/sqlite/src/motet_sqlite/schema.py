"""The tables, and opening a file that has them, or shall have them.

Each namespace has tables of its own, suffixed with its number: no index carries the namespace, and none sees another's.
"""

from __future__ import annotations

import sqlite3
import time
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
    boot TEXT,
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
        location.path,
        timeout=timeout.total_seconds(),
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        _prepare(connection, location, time.monotonic() + timeout.total_seconds())
        database = Database(connection, _namespace(connection, location, namespace))
        _recover(database)
    except BaseException:
        connection.close()
        raise
    database.sync(location.synchronous)
    return database


def _prepare(connection: sqlite3.Connection, location: Location, give_up: float) -> None:
    # In this order: another process may be making the file, and commits both at once.
    others = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if others and application != APPLICATION:
        raise Rejected(f"{location.path}: this database belongs to another program: choose another path")
    if not others:
        # Only before the first table (M5).
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    if _journal(connection, give_up) != "wal":
        raise Rejected(f"{location.path}: the file system cannot share memory, so no WAL: use a local disk")
    connection.execute("PRAGMA cache_size=-8000")
    connection.execute(f"PRAGMA journal_size_limit={64 * 1024 * 1024}")


def _journal(connection: sqlite3.Connection, give_up: float) -> str:
    """Ask for write-ahead logging, and return what we got."""
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            # Two processes that make the file at once: the busy handler is not asked here.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _namespace(connection: sqlite3.Connection, location: Location, namespace: str) -> int:
    """Return the namespace's number, made with its tables if need be."""
    # IMMEDIATE even to read, so that a read-only file is found now.
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise Rejected(
                f"{location.path}: its tables are of version {version}, this is {SCHEMA}: upgrade motet-sqlite"
            )
        if version == 0:
            connection.execute(f"PRAGMA application_id={APPLICATION}")
            connection.execute(f"PRAGMA user_version={SCHEMA}")
            connection.execute("CREATE TABLE namespace (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
        found = connection.execute("SELECT number FROM namespace WHERE name = ?", (namespace,)).fetchone()
        if found is None:
            number: int = connection.execute("INSERT INTO namespace (name) VALUES (?)", (namespace,)).lastrowid or 0
            tables = Database(connection, number)
            for statement in TABLES.split(";"):
                tables.change(statement)
        else:
            number = found[0]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return number


def _recover(database: Database) -> None:
    """End leases that count from a start that is over, where the system has no name for its starts."""
    if not boot():
        database.change("UPDATE {message} SET lease = 0 WHERE state = 2 AND boot = '' AND lease > ?", uptime() + 86400)
