"""Port E in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import anyio

from motet.engine.wellformed import check_count
from motet.errors import UsageError
from motet.memory.world import World
from motet.ports import Events

__all__ = ["MemoryEvents"]


class MemoryEvents:
    """One client's view of the stream. A cursor counts every event that ever was."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def emit(self, events: Sequence[bytes]) -> None:
        world = self.world
        for event in events:
            if type(event) is not bytes:
                raise UsageError(f"an event is bytes, not {event!r:.200}")
        world.emit(events)

    async def read(self, cursor: str | None, limit: int, wait: timedelta) -> tuple[str, list[bytes]]:
        world = self.world
        check_count(limit, "limit", 1)
        if cursor is not None and not (type(cursor) is str and cursor.isdecimal()):
            raise UsageError(f"no cursor of events: {cursor!r}")
        start = world.emitted if cursor is None else int(cursor)
        give_up = world.clock.monotonic() + wait.total_seconds()
        while (found := self.world.events_from(start, limit))[1] == []:
            left = give_up - world.clock.monotonic()
            if left <= 0:
                break
            event = anyio.Event()
            world.watchers[event] = None
            try:
                await world.clock.wait(event, left)
            finally:
                world.watchers.pop(event, None)
        return found


_: type[Events] = MemoryEvents
