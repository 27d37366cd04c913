"""Saboteurs of port E."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import Any

from harness import instead, saboteur

from motet.memory import MemoryBackend


@saboteur("E1")
def an_emitter_does_not_read_its_own_events(backend: MemoryBackend) -> None:
    mine: set[bytes] = set()

    @instead(backend.events, "emit")
    async def emit(original: Any, events: Any) -> None:
        mine.update(events)
        await original(events)

    @instead(backend.events, "read")
    async def read(original: Any, *args: Any) -> Any:
        cursor, events = await original(*args)
        return cursor, [event for event in events if event not in mine]


@saboteur("E2")
def a_cursor_after_two_events_is_one_short(backend: MemoryBackend) -> None:
    @instead(backend.events, "read")
    async def read(original: Any, *args: Any) -> Any:
        cursor, events = await original(*args)
        return str(int(cursor) - (len(events) == 2)), events


@saboteur("E2")
def no_cursor_begins_with_the_oldest(backend: MemoryBackend) -> None:
    @instead(backend.events, "read")
    async def read(original: Any, cursor: str | None, *args: Any) -> Any:
        return await original(cursor or "0", *args)


@saboteur("E3")
def an_event_does_not_wake_who_reads(backend: MemoryBackend) -> None:
    @instead(backend.world, "emit")
    def emit(original: Any, events: Any) -> None:
        watchers, backend.world.watchers = backend.world.watchers, set()
        original(events)
        backend.world.watchers = watchers


@saboteur("E3")
def one_event_more_than_was_asked_for_is_read(backend: MemoryBackend) -> None:
    @instead(backend.events, "read")
    async def read(original: Any, cursor: str | None, limit: int, wait: timedelta) -> Any:
        return await original(cursor, limit + 1, wait)


@saboteur("E3")
def a_wait_of_less_than_a_second_is_none(backend: MemoryBackend) -> None:
    @instead(backend.events, "read")
    async def read(original: Any, cursor: str | None, limit: int, wait: timedelta) -> Any:
        return await original(cursor, limit, timedelta(seconds=wait // timedelta(seconds=1)))


@saboteur("E4")
def a_few_less_than_a_thousand_are_kept(backend: MemoryBackend) -> None:
    backend.world.events = deque(maxlen=999)


@saboteur("E4")
def every_event_is_kept(backend: MemoryBackend) -> None:
    backend.world.events = deque()


@saboteur("E4")
def who_is_far_behind_begins_with_the_newest(backend: MemoryBackend) -> None:
    world = backend.world

    @instead(world, "events_from")
    def events_from(original: Any, start: int, limit: int) -> Any:
        return original(world.emitted if start < world.emitted - len(world.events) else start, limit)
