"""What the contract cannot see of dead letters, schedules, locks, workers and events on Redis."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from redis.exceptions import ConnectionError as Disconnected
from redis_server import RunningServer

from motet.memory.holders import Holders
from motet.message import DeadLetter, Parcel
from motet.options import Lane
from motet.outcome import ErrorInfo
from motet.ports import Busy, Filter, Grant, Lock, Present, Schedule, Settings
from motet.ports.ambient import SystemClock
from motet_redis import open as open_redis
from motet_redis import transport
from motet_redis.backend import RedisBackend
from motet_redis.pipe import Pipe

LONG = timedelta(minutes=10)
DUE = datetime(2020, 1, 1, tzinfo=UTC)
LANE = Lane("q", "small", 0)
EVERYTHING = Filter()
numbers = itertools.count()

Connect = Callable[[], AbstractAsyncContextManager[RedisBackend]]
Call = Callable[[RedisBackend], Awaitable[object]]


@pytest.fixture
def connect(server: RunningServer) -> Connect:
    """Return a factory: one more client, in the namespace of this test."""
    settings = Settings(namespace=f"ports{next(numbers)}.{random.getrandbits(32):x}")
    return lambda: open_redis(server.url, settings)


def letter(name: str, at: datetime = DUE) -> DeadLetter:
    return DeadLetter(name, LANE, "app:task", b"body", ErrorInfo("exception"), at)


def parcel(name: str) -> Parcel:
    return Parcel(name, LANE, b"body")


async def redis(backend: RedisBackend, *command: Any) -> Any:
    assert backend.client.pipe is not None
    return await backend.client.pipe.call(*command)


CALLS: dict[str, tuple[Call, object]] = {
    "replay": (lambda here: here.deadletters.replay([("a", parcel("n:1")), ("c", parcel("m:1"))]), [True, False]),
    "remove": (lambda here: here.deadletters.remove(["a", "c"]), [True, False]),
    "purge": (lambda here: here.deadletters.purge(EVERYTHING, 1), 1),
    "save": (lambda here: here.schedules.save(Schedule("t", DUE, b"\xff")), Schedule("t", DUE, b"\xff", version=1)),
    "fire": (lambda here: here.schedules.fire("s", DUE, None, [parcel("f:1")]), True),
    "forget": (lambda here: here.schedules.remove("s"), True),
    "free": (lambda here: here.locks.free("m"), True),
    "emit": (lambda here: here.events.emit([b"one", b"two"]), None),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_whose_answer_was_lost_is_not_done_twice(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    call, wanted = CALLS[name]
    async with connect() as backend:
        await backend.deadletters.bury([letter("a"), letter("b")])
        await backend.schedules.save(Schedule("s", DUE))
        await backend.locks.acquire([Lock("m", "mutex")], "owner", LONG)
        answered, scripts = Pipe.call, itertools.count()

        async def lose(self: Pipe, *command: Any) -> Any:
            answer = await answered(self, *command)
            if command[0] == "EVALSHA" and next(scripts) == (1 if name == "purge" else 0):
                raise Disconnected("lost")
            return answer

        monkeypatch.setattr(Pipe, "call", lose)
        assert await call(backend) == wanted
        monkeypatch.undo()

        left = {each.id for each in await backend.deadletters.page(EVERYTHING, None, 9)}
        assert left == ({"b"} if name in ("replay", "remove", "purge") else {"a", "b"})
        _, events = await backend.events.read("0-0", 9, timedelta())
        assert events == ([b"one", b"two"] if name == "emit" else [])


async def test_letters_of_one_moment_are_listed_by_burial(connect: Connect) -> None:
    names = [f"l{number}" for number in range(450)]
    async with connect() as backend:
        await backend.deadletters.bury([letter(name) for name in names])
        await backend.deadletters.bury(
            [letter("new", DUE + timedelta(microseconds=1)), letter("old", datetime.min.replace(tzinfo=UTC))]
        )

        listed = [each.id for each in await backend.deadletters.page(EVERYTHING, None, 1000)]
        assert listed == ["new", *reversed(names), "old"]
        assert await backend.deadletters.purge(Filter(since=DUE), 300) == 300
        after = await backend.deadletters.page(Filter(queue="q"), "l299", 1000)
        assert [each.id for each in after] == ["old"]


@pytest.mark.parametrize("seed", range(4))
async def test_locks_are_granted_as_in_memory(connect: Connect, seed: int) -> None:
    chance, memory, fences = random.Random(seed), Holders(SystemClock()), dict[int, int]()
    kinds: dict[str, list[Any]] = {"m": ["mutex"], "r": ["read", "read", "write"], "s": ["semaphore"], "rate": ["rate"]}
    async with connect() as backend:
        for _ in range(300):
            owner, deed = f"o{chance.randrange(5)}", chance.random()
            lease = timedelta(seconds=chance.randrange(100, 1000))
            if deed < 0.6:
                names = chance.sample(sorted(kinds), chance.randrange(1, 4))
                strange = chance.random() < 0.1  # somebody has changed what kind of lock it is
                asked = [Lock(name, "mutex" if strange else chance.choice(kinds[name]), 2, LONG) for name in names]
                asked = [Lock(lock.name, lock.kind, 30, LONG) if lock.kind == "rate" else lock for lock in asked]
                wanted, answer = memory.acquire(asked, owner, lease), await backend.locks.acquire(asked, owner, lease)
                assert type(answer) is type(wanted)
                if isinstance(answer, Grant) and isinstance(wanted, Grant):
                    assert fences.setdefault(wanted.fence, answer.fence) == answer.fence
                elif isinstance(answer, Busy) and isinstance(wanted, Busy):
                    assert abs(answer.after - wanted.after) < timedelta(seconds=1)
            elif deed < 0.75:
                assert await backend.locks.renew(owner, lease) == memory.renew(owner, lease)
            elif deed < 0.9:
                memory.release(owner)
                await backend.locks.release(owner)
            else:
                name = chance.choice("mrs")
                assert await backend.locks.free(name) == memory.free(name)
            held = [(each.name, each.owner, each.fence) for each in await backend.locks.held("")]
            assert held == [(each.name, each.owner, fences[each.fence]) for each in memory.held("")]
    assert [fences[number] for number in sorted(fences)] == sorted(set(fences.values()))


async def test_a_holder_keeps_its_place_when_the_limit_is_lowered(connect: Connect) -> None:
    async with connect() as backend:
        first = await backend.locks.acquire([Lock("s", "semaphore", 2)], "one", LONG)
        await backend.locks.acquire([Lock("s", "semaphore", 2)], "two", LONG)

        assert await backend.locks.acquire([Lock("s", "semaphore", 1)], "one", LONG) == first
        assert isinstance(await backend.locks.acquire([Lock("s", "semaphore", 1)], "three", LONG), Busy)


async def test_a_fence_rises_though_the_server_has_lost_the_last_ones(connect: Connect) -> None:
    async with connect() as backend:
        before = await backend.locks.acquire([Lock("m", "mutex")], "one", LONG)
        await redis(backend, "DEL", f"{backend.client.tag}:fence")
        await backend.locks.free("m")

        after = await backend.locks.acquire([Lock("m", "mutex")], "two", LONG)

        assert isinstance(before, Grant)
        assert isinstance(after, Grant)
        assert after.fence > before.fence


async def test_keys_of_locks_rates_and_workers_go_by_themselves(connect: Connect) -> None:
    short = timedelta(milliseconds=50)
    kinds = [Lock("m", "mutex"), Lock("r", "read"), Lock("s", "semaphore", 9), Lock("rate", "rate", 9, short)]
    async with connect() as backend:
        await backend.locks.acquire(kinds, "silent", short)
        await backend.workers.beat(Present("silent", b""), short)
        await anyio.sleep(1.3)

        keys = await redis(backend, "KEYS", f"{backend.client.tag}:*")

        assert [key.decode().partition(":")[2] for key in keys] == ["fence"]


async def test_a_read_that_is_cancelled_leaves_no_connection(connect: Connect) -> None:
    async with connect() as backend:
        for delay in (0.0, 0.001, 0.003, 0.01, 0.05) * 3:
            with anyio.move_on_after(delay):
                await backend.events.read("0-0", 1, LONG)
        assert backend.client.others == set()


async def test_a_read_that_waits_is_refused_when_the_client_is_closed(connect: Connect) -> None:
    async with connect() as backend:
        reading = asyncio.create_task(backend.events.read("0-0", 1, LONG))
        await anyio.sleep(0.1)
    with pytest.raises(Exception, match="closed"):
        await reading


async def test_what_is_given_back_wakes_who_waits(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKSTOP", 30.0)
    async with connect() as one, connect() as other:
        await one.transport.publish([parcel("r:1")])
        held = await one.transport.receive([LANE], 1, timedelta())
        found: list[str] = []

        async def wait() -> None:
            found.extend(each.id for each in await other.transport.receive([LANE], 1, LONG))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await asyncio.sleep(0.1)
                await one.transport.release(held)
        assert found == ["r:1"]


async def test_after_a_fetch_that_left_nothing_only_a_bell_leads_to_the_next(connect: Connect) -> None:
    async with connect() as here:
        await here.transport.publish([parcel("r:1")])
        await here.transport.receive([LANE], 2, LONG)
        before = here.transport._fetches

        with anyio.move_on_after(0.3):
            await here.transport.receive([LANE], 2, LONG)
        waited = here.transport._fetches - before
        await here.transport.publish([parcel("r:2")])
        found = await here.transport.receive([LANE], 2, LONG)

    assert waited <= 1  # for the token of the first message, which the fetch had not taken
    assert [each.id for each in found] == ["r:2"]


async def test_a_connection_on_which_nothing_is_answered_fails_all_who_wait(server: RunningServer) -> None:
    async with open_redis(server.url, Settings()) as here:
        connection = await here.client.location.connect("", 1.0)
        pipe = Pipe(connection, patience=0.2)
        answers = [pipe.send("BLPOP", f"nothing.{next(numbers)}", 5), pipe.send("PING")]

        failed = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 3)

        assert [type(each) for each in failed] == [Disconnected, Disconnected]
        assert pipe.broken is not None
        await pipe.close()
