"""The tables of a namespace. A new version adds to them; what an older one made is never changed."""

from __future__ import annotations

__all__ = ["NAMES", "SCHEMA", "VERSIONS"]

MESSAGES_AND_RECORDS = """
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
EVERY_PORT = """
CREATE TABLE {counter} (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL,
    expires REAL
) WITHOUT ROWID;
CREATE INDEX {counter}_expires ON {counter} (expires) WHERE expires IS NOT NULL;
CREATE TABLE {admission} (
    key TEXT PRIMARY KEY,
    parcel TEXT NOT NULL,
    expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX {admission}_expires ON {admission} (expires);
CREATE TABLE {letter} (  -- at: microseconds
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    kind TEXT NOT NULL,
    content BLOB NOT NULL
);
CREATE INDEX {letter}_at ON {letter} (at, seq, queue, task, kind);
CREATE TABLE {former} (  -- where letters that are gone had their place, for whoever pages through them
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX {former}_expires ON {former} (expires);
CREATE TABLE {schedule} (  -- due: microseconds
    name TEXT PRIMARY KEY,
    due INTEGER,
    spec BLOB NOT NULL,
    paused INTEGER NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX {schedule}_due ON {schedule} (due) WHERE paused = 0 AND due IS NOT NULL;
CREATE TABLE {holder} (
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    fence INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    lease REAL NOT NULL,
    PRIMARY KEY (name, owner)
) WITHOUT ROWID;
CREATE INDEX {holder}_owner ON {holder} (owner);
CREATE TABLE {spent} (  -- one use of a rate: used and lease by the boot clock, at by the wall's
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    owner TEXT,
    fence INTEGER NOT NULL,
    boot INTEGER NOT NULL,
    used REAL NOT NULL,
    lease REAL NOT NULL,
    at REAL NOT NULL,
    span REAL NOT NULL,
    PRIMARY KEY (name, number)
) WITHOUT ROWID;
CREATE INDEX {spent}_owner ON {spent} (owner) WHERE owner IS NOT NULL;
CREATE TABLE {fence} (last INTEGER NOT NULL);
INSERT INTO {fence} (last) VALUES (0);
CREATE TABLE {worker} (
    id TEXT PRIMARY KEY,
    about BLOB NOT NULL,
    boot INTEGER NOT NULL,
    lease REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE {event} (
    seq INTEGER PRIMARY KEY,
    content BLOB NOT NULL
)
"""
VERSIONS = (MESSAGES_AND_RECORDS, EVERY_PORT)
"""What each version of the schema added, from version 1."""
SCHEMA = len(VERSIONS)
NAMES = (
    "message",
    "record",
    "barrier",
    "flag",
    "paused",
    "counter",
    "admission",
    "letter",
    "former",
    "schedule",
    "holder",
    "spent",
    "fence",
    "worker",
    "event",
)
