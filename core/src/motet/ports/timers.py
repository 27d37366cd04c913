"""Messages for later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from motet.message import Parcel

__all__ = ["Timers"]


class Timers(Protocol):
    """Keeps parcels until they are due.

    D1. A parked parcel is not delivered before its due time, by the backend's clock, and soon after it.
    D2. It survives what published messages survive.
    D3. Parking an id that is queued, parked or held changes nothing.
    D4. What comes through timers is delivered as suspect (C3).
    D5. `cancel` removes parked parcels by id and answers which it removed; of a cancel and a delivery one wins.
    """

    async def park(self, parcels: Sequence[Parcel]) -> None:
        """Keep the parcels until their `due` time."""
        ...

    async def cancel(self, ids: Sequence[str]) -> list[bool]:
        """Take parked parcels back."""
        ...
