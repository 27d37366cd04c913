"""Renewing leases from any thread, while the event loop or the writer is busy: a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from motet.ports import Settings
from motet_sqlite import messages
from motet_sqlite.database import Database
from motet_sqlite.errors import translate
from motet_sqlite.location import Location
from motet_sqlite.schema import connect

__all__ = ["Leases"]


class Leases:
    """Opened at the first renewal: a client that only submits needs none."""

    def __init__(self, location: Location, settings: Settings) -> None:
        self._location = location
        self._settings = settings
        self._lock = threading.Lock()
        self._database: Database | None = None

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        """Renew leases; answer for each receipt whether it is still held.

        Raises:
            Unavailable: The file was locked for too long; no lease was renewed.
            Rejected: It refuses to be written.
        """
        if not receipts:
            return []
        with self._lock:
            try:
                if self._database is None:
                    self._database = connect(self._location, self._settings.namespace, self._settings.timeout)
                    # Leases are worth nothing after a crash of the machine: no fsync.
                    self._database.sync("off" if self._location.synchronous == "off" else "normal")
                with self._database.transaction():
                    return messages.renew(self._database, receipts, self._settings.lease)
            except Exception as error:
                raise translate(error, str(self._location.path)) from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
