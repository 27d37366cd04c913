"""Port D in memory."""

from __future__ import annotations

from collections.abc import Sequence

from motet.engine.wellformed import check_parcels, check_text
from motet.memory.world import World
from motet.message import Parcel
from motet.ports import Timers

__all__ = ["MemoryTimers"]


class MemoryTimers:
    """One client's timers: the transport parks what has a due time."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def park(self, parcels: Sequence[Parcel]) -> None:
        letters = self.world.letters
        check_parcels(parcels)
        letters.publish(parcels)

    async def cancel(self, ids: Sequence[str]) -> list[bool]:
        letters = self.world.letters
        check_text(*ids)
        return [letters.cancel(name) for name in ids]


_: type[Timers] = MemoryTimers
