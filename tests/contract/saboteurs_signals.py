"""Saboteurs of port N."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
from harness import instead, saboteur

from motet.memory import MemoryBackend


def listening(backend: MemoryBackend, change: Callable[[Any], None]) -> None:
    """Change every subscription of a client."""

    @instead(backend.signals, "subscribe")
    @asynccontextmanager
    async def subscribe(original: Any, run: str) -> AsyncGenerator[Any]:
        async with original(run) as wakeups:
            change(wakeups)
            yield wakeups


# N1: woken.


@saboteur("N1")
def who_waits_already_is_woken_by_its_own_client_only(backend: MemoryBackend) -> None:
    world: Any = backend.world
    deciding: list[Any] = vars(world).setdefault("deciding", [])

    def change(wakeups: Any) -> None:
        @instead(wakeups, "wait")
        async def wait(original: Any, limit: timedelta) -> None:
            wakeups.waits = True
            await original(limit)
            wakeups.waits = False

    listening(backend, change)

    @instead(backend.settler, "settle")
    async def settle(original: Any, entries: Any) -> Any:
        deciding.append(backend.signals)
        try:
            return await original(entries)
        finally:
            deciding.pop()

    @instead(world, "wake")
    def wake(original: Any, run: str) -> None:
        for wakeups in world.waiting.get(run, ()):
            if not deciding or wakeups.signals is deciding[-1] or not getattr(wakeups, "waits", False):
                wakeups.set()


@saboteur("N1")
def what_comes_between_two_waits_is_forgotten(backend: MemoryBackend) -> None:
    def change(wakeups: Any) -> None:
        @instead(wakeups, "wait")
        async def wait(original: Any, limit: timedelta) -> None:
            if hasattr(wakeups, "waited"):
                wakeups.event = anyio.Event()
            await original(limit)
            wakeups.waited = True

    listening(backend, change)


@saboteur("N1")
def one_of_those_who_wait_is_woken(backend: MemoryBackend) -> None:
    @instead(backend.world, "wake")
    def wake(original: Any, run: str) -> None:
        for wakeups in list(backend.world.waiting.get(run, ()))[:1]:
            wakeups.set()


# N2, N3: and if not.


@saboteur("N2")
def a_second_wait_does_not_end_by_itself(backend: MemoryBackend) -> None:
    def change(wakeups: Any) -> None:
        @instead(wakeups, "wait")
        async def wait(original: Any, limit: timedelta) -> None:
            await original(timedelta(seconds=60) if hasattr(wakeups, "waited") else limit)
            wakeups.waited = True

    listening(backend, change)


@saboteur("N3")
def who_is_cancelled_makes_the_others_deaf(backend: MemoryBackend) -> None:
    @instead(backend.signals, "subscribe")
    @asynccontextmanager
    async def subscribe(original: Any, run: str) -> AsyncGenerator[Any]:
        async with original(run) as wakeups:
            try:
                yield wakeups
            except anyio.get_cancelled_exc_class():
                for other in backend.world.waiting[run]:
                    vars(other)["set"] = lambda: None
                raise
