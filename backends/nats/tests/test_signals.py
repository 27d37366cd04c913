"""Who listens is told of what is decided from then on, however soon after it."""

from datetime import timedelta

import anyio

from motet.message import Key
from motet.ports import Wakeups
from motet.program import Once
from motet_nats import NatsBackend

LONG = timedelta(seconds=10)
SHORT = 3.0
AT_ONCE = timedelta(milliseconds=200)


async def decide(backend: NatsBackend, run: str) -> None:
    await backend.store.put_once([Once(Key(run, "o.0"), b"1", ends=True)])


async def assert_told(wakeups: Wakeups) -> None:
    began = anyio.current_time()
    await wakeups.wait(LONG)
    assert anyio.current_time() - began < SHORT


async def test_after_a_wait_nothing_is_missed(client: NatsBackend, worker: NatsBackend) -> None:
    for number in range(100):
        async with client.signals.subscribe(f"run{number}") as wakeups:
            await wakeups.wait(AT_ONCE)
            await decide(worker, f"run{number}")
            await assert_told(wakeups)


async def test_after_a_look_that_found_nothing_nothing_is_missed(client: NatsBackend, worker: NatsBackend) -> None:
    for number in range(100):
        async with client.signals.subscribe(f"run{number}") as wakeups:
            assert await client.store.get([Key(f"run{number}", "o.0")]) == [None]
            await decide(worker, f"run{number}")
            await assert_told(wakeups)


async def test_what_is_decided_at_once_is_not_missed_by_who_has_not_looked(
    client: NatsBackend, worker: NatsBackend
) -> None:
    for number in range(100):
        async with client.signals.subscribe(f"run{number}") as wakeups:
            await decide(worker, f"run{number}")
            await assert_told(wakeups)


async def test_waiters_of_one_run_are_all_told(client: NatsBackend, worker: NatsBackend) -> None:
    for number in range(20):
        run = f"run{number}"
        async with client.signals.subscribe(run) as first, client.signals.subscribe(run) as second:
            await first.wait(AT_ONCE)
            await decide(worker, run)
            await assert_told(first)
            await assert_told(second)
