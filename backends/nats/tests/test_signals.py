"""Who listens is told of what is decided from then on, however soon after it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import count

import anyio
import pytest
from nats_server import RunningServer

from motet.message import Key
from motet.ports import Settings, Wakeups
from motet.program import Once
from motet_nats import NatsBackend
from motet_nats import open as open_nats

LONG = timedelta(seconds=10)
SHORT = 3.0
AT_ONCE = timedelta(milliseconds=200)
numbers = count()


@pytest.fixture
async def waiter(server: RunningServer) -> AsyncIterator[NatsBackend]:
    async with open_nats(server.url, Settings(namespace=f"signals{next(numbers)}")) as backend:
        yield backend


@pytest.fixture
async def decider(server: RunningServer, waiter: NatsBackend) -> AsyncIterator[NatsBackend]:
    async with open_nats(server.url, waiter.client.settings) as backend:
        yield backend


async def decide(backend: NatsBackend, run: str) -> None:
    await backend.store.put_once([Once(Key(run, "o.0"), b"1", ends=True)])


async def assert_told(wakeups: Wakeups) -> None:
    began = anyio.current_time()
    await wakeups.wait(LONG)
    assert anyio.current_time() - began < SHORT


async def test_after_a_wait_nothing_is_missed(waiter: NatsBackend, decider: NatsBackend) -> None:
    for number in range(100):
        async with waiter.signals.subscribe(f"run{number}") as wakeups:
            await wakeups.wait(AT_ONCE)
            await decide(decider, f"run{number}")
            await assert_told(wakeups)


async def test_after_a_look_that_found_nothing_nothing_is_missed(waiter: NatsBackend, decider: NatsBackend) -> None:
    for number in range(100):
        async with waiter.signals.subscribe(f"run{number}") as wakeups:
            assert await waiter.store.get([Key(f"run{number}", "o.0")]) == [None]
            await decide(decider, f"run{number}")
            await assert_told(wakeups)


async def test_what_is_decided_at_once_is_not_missed_by_who_has_not_looked(
    waiter: NatsBackend, decider: NatsBackend
) -> None:
    for number in range(100):
        async with waiter.signals.subscribe(f"run{number}") as wakeups:
            await decide(decider, f"run{number}")
            await assert_told(wakeups)


async def test_waiters_of_one_run_are_all_told(waiter: NatsBackend, decider: NatsBackend) -> None:
    for number in range(20):
        run = f"run{number}"
        async with waiter.signals.subscribe(run) as first, waiter.signals.subscribe(run) as second:
            await first.wait(AT_ONCE)
            await decide(decider, run)
            await assert_told(first)
            await assert_told(second)
