"""The findings of the protocol's review that are about Redis, each by its number."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import anyio
import pytest
from redis_server import RedisServer, program

from motet import Motet, group
from motet.message import DeadLetter, Key, Parcel
from motet.options import Lane
from motet.outcome import ErrorInfo, Kind
from motet.ports import Delivery, Entry, Settings
from motet.program import Arrive, Once, Open, Publish
from motet_redis import RedisBackend
from motet_redis import open as open_redis
from motet_redis.settling import SETTLE
from motet_redis.wire import batch, entry

LANE = Lane("mail", "small", 1)
LEASE = timedelta(seconds=0.4)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(program(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def backend(server: RedisServer) -> AsyncIterator[RedisBackend]:
    server.command("FLUSHALL")
    async with open_redis(server.url, Settings(lease=LEASE)) as backend:
        yield backend


async def take(backend: RedisBackend, limit: int = 1, wait: float = 0) -> list[Delivery]:
    return await backend.transport.receive([LANE], limit, timedelta(seconds=wait))


async def test_c10_losing_leases_and_handing_back_never_counts_as_a_strike(backend: RedisBackend) -> None:
    await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
    for lost in range(3):
        (delivery,) = await take(backend, wait=2)
        assert (delivery.deliveries, delivery.suspect) == (lost + 1, lost > 0)
        await anyio.sleep(LEASE.total_seconds() * 1.2)
    (delivery,) = await take(backend)
    await backend.transport.release([delivery])
    (delivery,) = await take(backend)

    assert delivery.deliveries == 4
    assert await backend.transport.strike(delivery) == 1


async def test_c11_of_any_number_that_replay_a_letter_one_does(server: RedisServer, backend: RedisBackend) -> None:
    error = ErrorInfo(kind=Kind.EXCEPTION)
    letter = DeadLetter("run:0:r1", LANE, "task", b"", error, Settings().clock.now())
    await backend.deadletters.bury([letter])
    answers: list[bool] = []

    async def press(number: int) -> None:
        async with open_redis(server.url, Settings(lease=LEASE)) as other:
            answers.extend(await other.deadletters.replay([(letter.id, Parcel("again:0:r1", LANE, b""))]))

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(press, number)

    assert sorted(answers) == [False] * 4 + [True]
    assert [delivery.id for delivery in await take(backend, 10)] == ["again:0:r1"]


async def test_c15_a_barrier_fires_by_its_level_also_when_all_slots_had_arrived_before(backend: RedisBackend) -> None:
    key = Key("run", "b.0")
    await backend.store.open([Open(key, 2)])
    for slot in range(2):
        await backend.store.arrive(key, slot, 0)  # as by a script that broke off before it fired

    fire = Arrive(key, 1, 0, [Once(Key("run", "o.0"), b"all"), Publish((Parcel("run:1:r1", LANE, b""),))])
    for _ in range(2):
        await backend.settler.settle([Entry([fire])])

    assert [delivery.id for delivery in await take(backend, 10)] == ["run:1:r1"]


async def test_h13_a_wide_group_keeps_few_keys_and_little_memory(server: RedisServer, backend: RedisBackend) -> None:
    keys = [Key("wide", f"o.{number}") for number in range(20_000)]
    for first in range(0, len(keys), 256):
        barrier = Key("wide", f"b.{first}")
        await backend.store.open([Open(barrier, 256)])
        members = [
            Entry([Once(key, b"\x96\xa1o\xc4\x01\x07\xc0\xc0\xcb\0\0\0\0\0\0\0\0\xa0"), Arrive(barrier, slot, 0)])
            for slot, key in enumerate(keys[first : first + 256])
        ]
        await backend.settler.settle(members)

    kept = server.command("KEYS", "{motet}:?:wide*")
    size = sum(server.command("MEMORY", "USAGE", key) for key in kept) / len(keys)
    assert len(kept) < len(keys) / 50
    assert size < 60, f"{size:.0f} bytes for each member"


async def test_h14_a_batch_that_is_sent_again_publishes_once(backend: RedisBackend) -> None:
    """The answer to a submit is lost, and its message has been worked off before the client sends it again."""
    submit = batch([entry(Entry([Publish((Parcel("run:0:r1", LANE, b""),))]))])
    await backend.client.call(SETTLE, "producer", 7, *submit)
    await backend.transport.ack(await take(backend))

    await backend.client.call(SETTLE, "producer", 7, *submit)
    assert await take(backend) == []

    await backend.client.call(SETTLE, "producer", 8, *submit)
    assert len(await take(backend)) == 1


async def test_h14_children_go_out_with_the_acknowledgement_or_not_at_all(backend: RedisBackend) -> None:
    await backend.transport.publish([Parcel("run:0:e1", LANE, b"")])
    (expand,) = await take(backend)
    children = tuple(Parcel(f"run:{number}:r1", LANE, b"") for number in range(256))
    await anyio.sleep(LEASE.total_seconds() * 1.2)

    (reply,) = await backend.settler.settle([Entry([Publish(children)], expand)])

    assert reply.lost
    assert [delivery.id for delivery in await take(backend, 10)] == ["run:0:e1"]


async def test_m2_what_was_taken_before_does_not_settle_what_the_same_worker_holds_now(backend: RedisBackend) -> None:
    await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
    (first,) = await take(backend)
    await anyio.sleep(LEASE.total_seconds() * 1.2)
    (second,) = await take(backend)
    done = [Once(Key("run", "o.0"), b"done")]

    (late,) = await backend.settler.settle([Entry(done, first)])
    assert late.lost
    assert await backend.store.get([Key("run", "o.0")]) == [None]
    assert await backend.transport.find(["run"]) == ["held"]

    (reply,) = await backend.settler.settle([Entry(done, second)])
    assert not reply.lost


async def test_h3_what_is_left_after_many_tasks_and_their_retention_is_constant(server: RedisServer) -> None:
    server.command("FLUSHALL")
    left: list[int] = []
    kept: list[bytes] = []
    app = Motet(server.url, result_ttl=0.1, lease=0.2)

    @app.task(name="tests:double")
    async def double(x: int) -> int:
        return 2 * x

    @app.task(name="tests:total")
    async def total(xs: list[int]) -> int:
        return sum(xs)

    async with app:
        for count in (300, 3000):
            await app.submit_many(double.s(number) for number in range(count))
            await (group(double.s(number) for number in range(count)) | total.s()).submit()
            worker = app.make_worker(burst=True)
            await worker.serve()
            await anyio.sleep(1.5)  # the retention itself, and the second that a sweep waits beyond it
            await app.make_worker(burst=True).serve()
            await anyio.sleep(0.3)
            kept = [key for key in server.command("KEYS", "*") if server.command("TTL", key) == -1]
            left.append(len(kept))

    assert left[1] <= left[0] < 10, kept
