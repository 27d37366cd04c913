"""Port P in memory."""

from __future__ import annotations

from collections.abc import Sequence

from motet.memory.world import World
from motet.ports import Entry, Reply, Settler

__all__ = ["MemorySettler"]


class MemorySettler:
    """One client's settler: in place, and whole because nothing is awaited."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        return self.world.settle_all(entries)


_: type[Settler] = MemorySettler
