"""Saboteurs of port W."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from harness import instead, saboteur

from motet.memory import MemoryBackend


@saboteur("W1")
def workers_are_listed_as_they_came(backend: MemoryBackend) -> None:
    @instead(backend.workers, "present")
    async def present(original: Any) -> Any:
        order = list(backend.world.workers)
        return sorted(await original(), key=lambda worker: order.index(worker.id))


@saboteur("W1")
def what_a_worker_said_first_is_kept(backend: MemoryBackend) -> None:
    @instead(backend.workers, "beat")
    async def beat(original: Any, worker: Any, ttl: timedelta) -> None:
        known, _ = backend.world.workers.get(worker.id, (worker, 0.0))
        await original(known, ttl)


@saboteur("W1")
def what_a_worker_says_is_read_as_text(backend: MemoryBackend) -> None:
    @instead(backend.workers, "beat")
    async def beat(original: Any, worker: Any, ttl: timedelta) -> None:
        await original(msgspec.structs.replace(worker, about=worker.about.decode("utf-8", "ignore").encode()), ttl)


@saboteur("W2")
def the_first_ttl_of_a_worker_is_kept(backend: MemoryBackend) -> None:
    ttls: dict[str, timedelta] = {}

    @instead(backend.workers, "beat")
    async def beat(original: Any, worker: Any, ttl: timedelta) -> None:
        await original(worker, ttls.setdefault(worker.id, ttl))


@saboteur("W2")
def a_beat_never_makes_a_worker_go_earlier(backend: MemoryBackend) -> None:
    @instead(backend.workers, "beat")
    async def beat(original: Any, worker: Any, ttl: timedelta) -> None:
        workers = backend.world.workers
        _, before = workers.get(worker.id, (worker, 0.0))
        await original(worker, ttl)
        workers[worker.id] = worker, max(before, workers[worker.id][1])


@saboteur("W2")
def silent_workers_are_listed_for_ever(backend: MemoryBackend) -> None:
    @instead(backend.workers, "present")
    async def present(original: Any) -> Any:
        return [worker for _, (worker, _) in sorted(backend.workers.world.workers.items())]


@saboteur("W3")
def who_leaves_takes_along_whose_id_begins_alike(backend: MemoryBackend) -> None:
    @instead(backend.workers, "leave")
    async def leave(original: Any, id: str) -> None:
        for name in [name for name in backend.world.workers if name.startswith(id)]:
            await original(name)


@saboteur("W3")
def only_its_own_client_can_say_that_a_worker_left(backend: MemoryBackend) -> None:
    mine: set[str] = set()

    @instead(backend.workers, "beat")
    async def beat(original: Any, worker: Any, ttl: timedelta) -> None:
        mine.add(worker.id)
        await original(worker, ttl)

    @instead(backend.workers, "leave")
    async def leave(original: Any, id: str) -> None:
        if id in mine:
            await original(id)
