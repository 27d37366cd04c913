"""Saboteurs of a backend as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio.lowlevel
import attrs
from harness import instead, saboteur

from motet.errors import Unavailable, UsageError
from motet.memory import MemoryBackend
from motet.memory.world import World
from motet.message import Key

# B1, B2: what is refused.


@saboteur("B1")
def what_is_not_declared_is_offered(backend: MemoryBackend) -> None:
    backend.capabilities = attrs.evolve(backend.capabilities, events=False)


@saboteur("B1")
def what_is_not_declared_is_not_there(backend: MemoryBackend) -> None:
    backend.capabilities = attrs.evolve(backend.capabilities, events=False)
    del backend.events


@saboteur("B2")
def an_error_of_the_driver_crosses_the_port(backend: MemoryBackend) -> None:
    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        await original([parcel for parcel in parcels if memoryview(parcel.body) is not None])


@saboteur("B2")
def what_is_refused_is_half_done(backend: MemoryBackend) -> None:
    @instead(backend.store, "put")
    async def put(original: Any, records: Any) -> None:
        for record in records:
            if type(record.value) is not bytes:
                backend.world.records.values.setdefault(record.key.run, {})[record.key.name] = b""
        await original(records)


@saboteur("B2")
def a_call_that_failed_breaks_the_client(backend: MemoryBackend) -> None:
    @instead(backend.schedules, "save")
    async def save(original: Any, schedule: Any) -> Any:
        try:
            return await original(schedule)
        except UsageError:
            backend.close()
            raise


# B3: namespaces.


def outside(backend: MemoryBackend) -> World:
    """Return the world that was opened first: another one, for a client of another namespace."""
    first: World = vars(backend.world.clock).setdefault("first", backend.world)
    return first


@saboteur("B3")
def all_namespaces_have_the_same_records(backend: MemoryBackend) -> None:
    backend.world.records = outside(backend).records


@saboteur("B3")
def all_namespaces_have_the_same_schedules(backend: MemoryBackend) -> None:
    backend.world.schedules = outside(backend).schedules


@saboteur("B3")
def all_namespaces_have_the_same_counters(backend: MemoryBackend) -> None:
    backend.world.records.counters = outside(backend).records.counters


@saboteur("B3")
def all_namespaces_have_the_same_messages(backend: MemoryBackend) -> None:
    backend.world.letters = outside(backend).letters


@saboteur("B3")
def all_namespaces_are_paused_together(backend: MemoryBackend) -> None:
    backend.world.letters.paused = outside(backend).letters.paused


@saboteur("B3")
def all_namespaces_admit_under_the_same_keys(backend: MemoryBackend) -> None:
    backend.world.letters.keys = outside(backend).letters.keys


@saboteur("B3")
def all_namespaces_have_the_same_dead_letters(backend: MemoryBackend) -> None:
    backend.world.burials = outside(backend).burials


@saboteur("B3")
def all_namespaces_have_the_same_locks(backend: MemoryBackend) -> None:
    backend.world.holders = outside(backend).holders


@saboteur("B3")
def all_namespaces_have_the_same_workers(backend: MemoryBackend) -> None:
    backend.world.workers = outside(backend).workers


# B4: closing.


def hang_up(world: Any) -> None:
    """Make the receives fail that are waiting now."""
    letters = world.letters
    waiting = len(letters.receivers)
    take = letters.take

    def taken(*args: Any, **kwargs: Any) -> Any:
        nonlocal waiting
        waiting -= 1
        if waiting >= 0:
            raise Unavailable("the connection was reset")
        return take(*args, **kwargs)

    letters.take = taken
    letters.wake_receivers()


@saboteur("B4")
def a_client_that_is_closed_goes_on(backend: MemoryBackend) -> None:
    @instead(backend, "close")
    def close(original: Any) -> None:
        backend.world.wake_all()


@saboteur("B4")
def one_port_of_a_closed_client_goes_on(backend: MemoryBackend) -> None:
    world = backend.world

    @instead(backend, "close")
    def close(original: Any) -> None:
        original()
        backend.workers.world = world


@saboteur("B4")
def closing_a_client_hangs_up_on_all(backend: MemoryBackend) -> None:
    @instead(backend, "close")
    def close(original: Any) -> None:
        hang_up(backend.world)
        original()


@saboteur("B4")
def what_a_client_wrote_goes_with_it(backend: MemoryBackend) -> None:
    written: list[Key] = []

    @instead(backend.store, "put")
    async def put(original: Any, records: Any) -> None:
        await original(records)
        written.extend(record.key for record in records)

    @instead(backend, "close")
    def close(original: Any) -> None:
        for key in written:
            backend.world.records.remove(key)
        original()


@saboteur("B4")
def closing_waits_for_who_receives(backend: MemoryBackend) -> None:
    receiving: set[object] = set()

    @instead(backend.transport, "receive")
    async def receive(original: Any, *args: Any, **options: Any) -> Any:
        receiving.add(call := object())
        try:
            return await original(*args, **options)
        finally:
            receiving.discard(call)

    async def on_close() -> None:
        while receiving:
            await backend.world.clock.sleep(0.1)

    vars(backend)["on_close"] = on_close


# B5: restarts.


def restarting(backend: MemoryBackend, happens: Callable[[], object]) -> None:
    """Have something happen when the broker is started again."""
    vars(backend.world).setdefault("on_restart", happens)


def forgotten(backend: MemoryBackend, *, parked: bool) -> None:
    """Have a restart forget messages that are parked, or that are queued."""
    letters = backend.world.letters

    def forget() -> None:
        for letter in [each for each in letters.all.values() if each.parked is parked and not each.receipt]:
            letters.withdraw(letter)

    restarting(backend, forget)


@saboteur("B5")
def a_restart_forgets_what_is_queued(backend: MemoryBackend) -> None:
    forgotten(backend, parked=False)


@saboteur("B5")
def a_restart_forgets_what_is_parked(backend: MemoryBackend) -> None:
    forgotten(backend, parked=True)


@saboteur("B5")
def a_restart_forgets_records(backend: MemoryBackend) -> None:
    restarting(backend, backend.world.records.values.clear)


@saboteur("B5")
def a_restart_forgets_barriers(backend: MemoryBackend) -> None:
    restarting(backend, backend.world.records.barriers.clear)


@saboteur("B5")
def a_restart_forgets_schedules(backend: MemoryBackend) -> None:
    restarting(backend, backend.world.schedules.clear)


@saboteur("B5")
def a_restart_resumes_queues(backend: MemoryBackend) -> None:
    restarting(backend, backend.world.letters.paused.clear)


@saboteur("B5")
def a_restart_forgets_dead_letters(backend: MemoryBackend) -> None:
    restarting(backend, backend.world.burials.letters.clear)


@saboteur("B5")
def a_restart_forgets_keys(backend: MemoryBackend) -> None:
    restarting(backend, backend.world.letters.keys.clear)


@saboteur("B5")
def a_receive_does_not_outlive_a_restart(backend: MemoryBackend) -> None:
    restarting(backend, lambda: hang_up(backend.world))


@saboteur("B5")
def a_client_that_was_open_cannot_publish_after_a_restart(backend: MemoryBackend) -> None:
    restarting(backend, lambda: vars(backend.world).update(restarted=True))

    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        if hasattr(backend.world, "restarted"):
            raise Unavailable("the connection was reset")
        await original(parcels)


# B6: calls at once.


@saboteur("B6")
def seventeen_publishes_at_once_are_too_many(backend: MemoryBackend) -> None:
    calls: set[object] = set()

    @instead(backend.transport, "publish")
    async def publish(original: Any, parcels: Any) -> None:
        calls.add(call := object())
        try:
            await anyio.lowlevel.checkpoint()
            if len(calls) > 16:
                raise Unavailable("no connection is free")
            await original(parcels)
        finally:
            calls.discard(call)


@saboteur("B6")
def who_reads_at_the_same_time_gets_the_same_answer(backend: MemoryBackend) -> None:
    asked: list[Any] = []

    @instead(backend.store, "get")
    async def get(original: Any, keys: Any) -> Any:
        asked.append(keys)
        await anyio.lowlevel.checkpoint()
        try:
            return await original(asked[-1] if len(asked) > 8 else keys)
        finally:
            asked.remove(keys)
