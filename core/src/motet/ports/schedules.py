"""Schedules: when something is due next, as records that every worker may move on, and only one does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from motet.message import Parcel

__all__ = ["Schedule", "Schedules"]


class Schedule(msgspec.Struct, frozen=True):
    """One schedule. `spec` is what the core keeps in it, opaque to the backend; `version` counts its changes from 1.

    Without a `due` time it has come to its end, and stays until it is removed.
    """

    name: str
    due: datetime | None
    spec: bytes = b""
    paused: bool = False
    version: int = 0


class Schedules(Protocol):
    """Keeps schedules, and fires each due time once, whoever asks (R53).

    C1. `save` writes when the stored version is the one that is given (0: there is none), and answers what is stored
        afterwards, with its version one higher; otherwise it changes nothing and answers what is there.
    C2. `fire` publishes the parcels and moves the schedule on to `following`, if it is due at `due` still; of any
        number at once one answers True. The parcels of one due time have the same ids, and a repetition is harmless.
        `fire` does not ask what time it is: its callers do.
    C3. A paused schedule does not fire, nor one that is removed or was moved on.
    C4. Firing keeps `spec` and `paused`, raises the version, and so fails an edit that was made before it.
    C5. `due` lists what is not paused and due by then, the longest due first.
    C6. `page` lists all by name, after the one given.
    C7. `remove` forgets a schedule and answers whether there was one; a new one of that name may begin at 0.
    C8. Schedules survive what published messages survive.
    """

    async def save(self, schedule: Schedule) -> Schedule | None:
        """Write a schedule, replacing the version that it carries; None when that was removed meanwhile."""
        ...

    async def fire(self, name: str, due: datetime, following: datetime | None, parcels: Sequence[Parcel]) -> bool:
        """Publish what is due, and move on; True for the one that did."""
        ...

    async def get(self, names: Sequence[str]) -> list[Schedule | None]:
        """Read schedules."""
        ...

    async def due(self, until: datetime, limit: int) -> list[Schedule]:
        """List what shall fire."""
        ...

    async def page(self, after: str | None, limit: int) -> list[Schedule]:
        """List schedules by name."""
        ...

    async def remove(self, name: str) -> bool:
        """Forget a schedule."""
        ...
