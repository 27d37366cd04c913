"""The SQLite backend of Motet: queues, results and timers in one file, for any number of processes of one machine."""

from motet_sqlite.backend import SqliteBackend, open
from motet_sqlite.writer import FAILPOINTS

__all__ = ["FAILPOINTS", "SqliteBackend", "open"]
