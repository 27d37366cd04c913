"""Calls that are handed to an owner in the same process, and consumers that outlive a receive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from rabbitmq_server import RabbitServer

from motet.errors import Unavailable
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Entry, Settings
from motet.program import Arrive, Once, Op, Open, Publish, Put
from motet_rabbitmq import RabbitBackend, owner
from motet_rabbitmq import open as open_rabbitmq
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.errands import Call, Mailbox

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
LANE = Lane("mail", "small", 1)
SOON = timedelta(seconds=10)
NOW = timedelta()
numbers = count()


@pytest.fixture
def settings() -> Settings:
    return Settings(namespace=f"errands{next(numbers)}")


@pytest.fixture
def url(file_server: RabbitServer) -> str:
    return f"{file_server.url}?shards=1"


@pytest.fixture
async def backend(url: str, settings: Settings) -> AsyncIterator[RabbitBackend]:
    """A client whose process owns all shards."""
    async with open_rabbitmq(url, settings) as backend:
        assert await backend.transport.receive([LANE], 1, NOW) == []
        await backend.store.put([Put(Key("z", "v"), b"1")])  # who has nothing to read does not know that it owns
        with anyio.fail_after(10):
            while not backend.owners.ready(0):
                await anyio.sleep(0.01)
        yield backend


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes by the queue of a shard."""
    names: list[str] = []
    request = Asking._request

    async def note(self: Asking, channel: Any, shard: int, calls: list[Call[Any]]) -> None:
        names.extend(call.method.name for call in calls)
        await request(self, channel, shard, calls)

    monkeypatch.setattr(Asking, "_request", note)
    return names


async def settle(backend: RabbitBackend, *programs: Sequence[Op]) -> list[bool]:
    replies = await backend.settler.settle([Entry(program) for program in programs])
    return [not reply.conflicts for reply in replies]


async def test_what_a_worker_does_all_day_writes_no_requests(backend: RabbitBackend, requested: list[str]) -> None:
    await backend.transport.publish([Parcel("a:1", LANE, b"body")])
    [taken] = await backend.transport.receive([LANE], 1, SOON)
    [reply] = await backend.settler.settle([Entry([Once(Key("a", "o.0"), b"1")], taken)])

    assert not reply.conflicts
    assert requested == []
    assert await backend.store.get([Key("a", "o.0")]) == [b"1"]
    assert await backend.transport.find(["a"]) == [None]


async def test_what_is_not_open_here_yet_is_asked_by_the_queue(backend: RabbitBackend, requested: list[str]) -> None:
    barrier = Key("a", "b")
    arrive = Arrive(barrier, 0, 0, (Publish((Parcel("a:next", LANE, b""),)),))

    assert await settle(backend, [Once(Key("a", "o.1"), b"1"), arrive]) == [True]
    assert requested == ["Machine.settle_all"]
    assert await settle(backend, [Open(barrier, 1)], [Once(Key("a", "o.2"), b"1"), arrive]) == [True, True]
    assert requested == ["Machine.settle_all"]

    assert [each.id for each in await backend.transport.receive([LANE], 9, SOON)] == ["a:next"]


async def test_a_shard_that_is_left_meanwhile_loses_and_doubles_nothing(backend: RabbitBackend) -> None:
    shard = backend.owners.shard(0)
    assert shard is not None

    async def publish(number: int) -> None:
        await anyio.sleep(number / 10_000)
        await backend.transport.publish([Parcel(f"a.{number}:1", LANE, b"")])

    async with anyio.create_task_group() as group:
        for number in range(300):
            group.start_soon(publish, number)
        await anyio.sleep(0.015)
        shard.leave()

    found: list[str] = []
    while taken := await backend.transport.receive([LANE], 300, timedelta(seconds=1)):
        found += [each.id for each in taken]
    assert sorted(found) == sorted(f"a.{number}:1" for number in range(300))


async def test_whoever_does_not_know_whether_it_was_done_is_told(
    backend: RabbitBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hit(name: str) -> None:
        if name == "after_commit":
            monkeypatch.setattr(owner, "hit", lambda _: None)
            raise RuntimeError(name)

    monkeypatch.setattr(owner, "hit", hit)
    with pytest.raises(Unavailable, match="may be done"):
        await settle(backend, [Once(Key("a", "o.0"), b"1")])

    assert await settle(backend, [Once(Key("a", "o.0"), b"2")]) == [False]


async def test_questions_leave_nothing_in_the_queue(backend: RabbitBackend) -> None:
    await backend.store.put([Put(Key("a", "v"), b"1")])
    for _ in range(20):
        assert await backend.store.get([Key("a", "v")]) == [b"1"]

    shard = backend.owners.shard(0)
    assert shard is not None
    with anyio.fail_after(5):
        while shard.records.holding > len(shard.ledger):
            await anyio.sleep(0.05)


async def test_what_comes_after_a_receive_is_not_kept_from_others(
    url: str, settings: Settings, backend: RabbitBackend
) -> None:
    async with open_rabbitmq(url, settings) as other:
        for number in range(10):
            await backend.transport.publish([Parcel(f"a.{number}:1", LANE, b"")])
            [first] = await backend.transport.receive([LANE], 5, SOON)
            await backend.transport.publish([Parcel(f"b.{number}:1", LANE, b"")])

            [second] = await other.transport.receive([LANE], 5, SOON)

            assert (first.id, second.id) == (f"a.{number}:1", f"b.{number}:1")
            assert (second.deliveries, second.suspect) == (1, False)
            await backend.transport.ack([first])
            await other.transport.ack([second])


async def test_a_mailbox_brings_everything_in_order_and_tells_who_comes_late() -> None:
    come: list[int] = []
    box = Mailbox[int](asyncio.get_running_loop(), come.extend)

    def post() -> None:
        for number in range(1000):
            assert box.post(number)

    await anyio.to_thread.run_sync(post)
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()

    assert come == list(range(1000))
    assert box.close() == []
    assert not box.post(1)
