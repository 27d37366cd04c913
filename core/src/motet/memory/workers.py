"""Port W in memory."""

from __future__ import annotations

from datetime import timedelta

from motet.engine.wellformed import check_each, check_text
from motet.memory.world import World
from motet.ports import Present, Workers

__all__ = ["MemoryWorkers"]


class MemoryWorkers:
    """One client's view of the roll."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def beat(self, worker: Present, ttl: timedelta) -> None:
        world = self.world
        check_each((worker,), Present)
        world.workers[worker.id] = worker, world.clock.monotonic() + ttl.total_seconds()

    async def leave(self, id: str) -> None:
        workers = self.world.workers
        check_text(id)
        workers.pop(id, None)

    async def present(self) -> list[Present]:
        world = self.world
        now = world.clock.monotonic()
        for name in [name for name, (_, until) in world.workers.items() if until <= now]:
            del world.workers[name]
        return [worker for _, (worker, _) in sorted(world.workers.items())]


_: type[Workers] = MemoryWorkers
