"""Port X in memory."""

from __future__ import annotations

from collections.abc import Sequence

from motet.engine.wellformed import check_count, check_each, check_parcels, check_text
from motet.memory.world import World
from motet.message import DeadLetter, Parcel
from motet.ports import DeadLetters, Filter

__all__ = ["MemoryDeadLetters"]


class MemoryDeadLetters:
    """One client's dead letters."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        burials = self.world.burials
        check_each(letters, DeadLetter)
        for letter in letters:
            burials.bury(letter)

    async def get(self, ids: Sequence[str]) -> list[DeadLetter | None]:
        burials = self.world.burials
        check_text(*ids)
        return [burials.letters.get(name) for name in ids]

    async def page(self, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        burials = self.world.burials
        check_each((filter,), Filter)
        check_count(limit, "limit")
        return burials.page(filter, after, limit)

    async def replay(self, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        world = self.world
        check_parcels(parcel for _, parcel in replays)
        answers: list[bool] = []
        for name, parcel in replays:
            answers.append(world.burials.remove(name))
            if answers[-1]:
                world.letters.publish((parcel,))
        return answers

    async def remove(self, ids: Sequence[str]) -> list[bool]:
        burials = self.world.burials
        check_text(*ids)
        return [burials.remove(name) for name in ids]

    async def purge(self, filter: Filter, limit: int) -> int:
        burials = self.world.burials
        check_each((filter,), Filter)
        check_count(limit, "limit")
        return sum(burials.remove(letter.id) for letter in burials.chosen(filter)[:limit])


_: type[DeadLetters] = MemoryDeadLetters
