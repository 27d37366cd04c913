"""The findings of the protocol's review that are about RabbitMQ, each by its number.

Those that need no broker are in test_machine.py; H7 and H9's lost connection in test_outages.py.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from rabbitmq_server import Kind, RabbitServer, server_for

from motet import Motet
from motet.errors import MotetError, Unavailable
from motet.message import DeadLetter, Key, Parcel
from motet.options import Lane
from motet.outcome import ErrorInfo
from motet.ports import Busy, Delivery, Entry, Filter, Grant, Lock, Settings
from motet.program import Arrive, Once, Op, Open, Publish, Put
from motet_rabbitmq import RabbitBackend, ops, owner, wire
from motet_rabbitmq import open as open_rabbitmq
from motet_rabbitmq.errors import Foreign
from motet_rabbitmq.frames import Frame
from motet_rabbitmq.location import locate
from motet_rabbitmq.machine import CONTROL
from motet_rabbitmq.owner import ShardOwner
from motet_rabbitmq.runs import Runs

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
LANE = Lane("mail", "small", 1)
SOON = timedelta(seconds=10)
NOW = timedelta()
numbers = count()


class Died(Exception):
    """What stands for the death of an owner."""


@pytest.fixture
def settings() -> Settings:
    return Settings(namespace=f"review{next(numbers)}")


@pytest.fixture
def url(file_server: RabbitServer) -> str:
    return f"{file_server.url}?shards=1"


@pytest.fixture
async def backend(url: str, settings: Settings) -> AsyncIterator[RabbitBackend]:
    async with open_rabbitmq(url, settings) as backend:
        yield backend


async def take(backend: RabbitBackend, limit: int = 10, wait: timedelta = NOW) -> list[Delivery]:
    return await backend.transport.receive([LANE], limit, wait)


async def settle(backend: RabbitBackend, program: Sequence[Op], delivery: Delivery | None = None) -> bool:
    (reply,) = await backend.settler.settle([Entry(program, delivery)])
    return not reply.conflicts


def parcel(name: str, body: bytes = b"body") -> Parcel:
    return Parcel(name, LANE, body)


def dies(monkeypatch: pytest.MonkeyPatch, place: str, passes: int = 1) -> list[str]:
    """Have the owner fail at a place, once; what it had not committed by then is lost with it."""
    passed: list[str] = []

    def hit(name: str) -> None:
        if name == place and len(passed) < passes:
            passed.append(name)
            raise Died(name)

    monkeypatch.setattr(owner, "hit", hit)
    return passed


async def test_c1_a_worker_that_dies_between_its_settlement_and_its_ack_leaves_nothing_to_run_again(
    url: str, settings: Settings, backend: RabbitBackend
) -> None:
    async with open_rabbitmq(url, settings) as dying:
        await dying.transport.publish([parcel("a:1")])
        [taken] = await take(dying, 1, SOON)
        holding = dying.transport.holdings.held[taken.receipt]
        holding.kept = True  # its acknowledgement never leaves

        assert await settle(dying, [Once(Key("a", "o.0"), b"1"), Publish((parcel("a:2"),))], taken)

    assert [each.id for each in await take(backend, 10, SOON)] == ["a:2"]
    assert await take(backend) == []


@pytest.mark.parametrize("place", ["before_outputs", "after_outputs", "after_commit"])
async def test_c2_an_owner_that_dies_anywhere_publishes_what_follows_once(
    place: str, backend: RabbitBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backend.store.put([Put(Key("a", "v"), b"1")])
    passed = dies(monkeypatch, place)
    program: Sequence[Op] = [Once(Key("a", "o.0"), b"1"), Publish((parcel("a:1"), parcel("a:2")))]

    with suppress(Unavailable):  # after the commit nobody answers any more
        await settle(backend, program)
    await settle(backend, program)

    assert passed == [place]
    found = [each.id for each in await take(backend, 10, SOON)] + [each.id for each in await take(backend)]
    assert sorted(found) == ["a:1", "a:2"]


async def test_c3_what_follows_a_record_that_was_there_already_is_suspect(backend: RabbitBackend) -> None:
    program: Sequence[Op] = [Once(Key("a", "o.0"), b"1"), Publish((parcel("a:1"),))]
    await settle(backend, program)
    [first] = await take(backend)
    await backend.transport.ack([first])

    await settle(backend, program)

    [again] = await take(backend)
    assert (first.suspect, again.suspect) == (False, True)


async def test_c4_fifty_thousand_open_groups_on_one_shard_still_finish(
    url: str, settings: Settings, backend: RabbitBackend
) -> None:
    groups = 50_000
    for start in range(0, groups, 1000):
        await backend.store.open([Open(Key(f"g{number}", "b"), 2) for number in range(start, start + 1000)])
    for start in (0, groups - 100):
        await backend.settler.settle(
            [
                Entry([Arrive(Key(f"g{number}", "b"), slot, 0, (Publish((parcel(f"g{number}:next"),)),))])
                for number in range(start, start + 100)
                for slot in range(2)
            ]
        )

    found = 0
    while found < 200:
        found += len(await take(backend, 500, SOON))
    shard = backend.owners.shard(0)
    assert shard is not None
    assert len(shard.ledger) <= 2000
    await backend.owners.close()
    async with open_rabbitmq(url, settings) as other:
        began = time.monotonic()
        [barrier] = await other.store.barriers([Key("g100", "b")])
        took = time.monotonic() - began
    assert barrier is not None
    assert took < 4  # with the guest's start; the replay alone is to take less than 2


@pytest.fixture
def tight_server(kind: Kind | None, tmp_path: Path) -> Iterator[RabbitServer]:
    """A server whose write-ahead log is 4 MB, and not 512: what is pinned shows sooner."""
    with server_for(kind, tmp_path, settings=("raft.wal_max_size_bytes = 4000000",)) as server:
        if not isinstance(server, RabbitServer):
            pytest.skip("a server that somebody else started is not ours to measure")
        yield server


async def test_c5_one_idle_run_does_not_pin_the_log(
    tight_server: RabbitServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "AGE_MOST", 0.5)
    folder = tight_server.folder / "mnesia"
    async with open_rabbitmq(f"{tight_server.url}?shards=1", settings) as backend:
        await backend.store.put([Put(Key("idle", "v"), b"1")])

        async def traffic() -> int:
            for number in range(1200):
                await backend.store.put([Put(Key("busy", f"v.{number % 8}"), b"x" * 8 * 1024)])
            await anyio.sleep(1)
            return await anyio.to_thread.run_sync(size, folder)

        sizes = [await traffic() for _ in range(6)]

        assert await backend.store.get([Key("idle", "v")]) == [b"1"]
    # 20 MB go through in each round; a pinned log keeps all of it. RabbitMQ cuts it after some 2,000 entries at best.
    assert sizes[-1] - sizes[2] < 30 * 1024 * 1024, sizes


def size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


async def test_c6_a_shard_that_changes_hands_keeps_its_order(
    url: str, settings: Settings, backend: RabbitBackend
) -> None:
    async with open_rabbitmq(url, settings) as other:
        other.owners.begin(worker=True)
        backend.owners.begin(worker=True)
        for number in range(40):
            await backend.store.put([Put(Key("a", "v"), str(number).encode())])
            if number % 10 == 9:
                for each in (backend, other):
                    shard = each.owners.shard(0)
                    if shard is not None and shard.active:
                        shard.leave()
            assert await other.store.get([Key("a", "v")]) == [str(number).encode()]


async def test_c7_an_owner_that_lost_its_shard_without_knowing_it_grants_nothing(
    url: str, settings: Settings, backend: RabbitBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = [Lock("l", "mutex")]
    await backend.locks.held("")
    zombie = backend.owners.shard(CONTROL)
    assert zombie is not None
    # Its channel is closed under it, between what it decides and its commit.
    original = ShardOwner._send
    closed: list[int] = []

    async def send(self: ShardOwner) -> None:
        if not closed and self.machine.state.dirty:
            closed.append(1)
            await self.records.close()
        await original(self)

    monkeypatch.setattr(ShardOwner, "_send", send)
    answers = [await backend.locks.acquire(lock, name, SOON) for name in ("one", "two")]

    assert closed
    assert [type(answer) for answer in answers] == [Grant, Busy]
    assert [(each.owner, each.fence) for each in await backend.locks.held("")] == [("one", 1)]


async def test_c4_a_new_owner_reads_past_what_waits_without_changing_its_order(
    url: str, settings: Settings, backend: RabbitBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backend.store.put([Put(Key("a", "v"), b"before")])
    await backend.owners.close()
    monkeypatch.setattr(owner, "ROTATE", 5)
    puts = [
        wire.Asked(Runs.put.name, wire.pack(([ops.put(Put(Key("a", "v"), str(number).encode()))],)))
        for number in range(50)
    ]
    channel = await backend.asking.connected()
    for each in puts:
        await channel.publish([Frame(backend.asking.names.shard(0), wire.pack_request([each]))])

    async with open_rabbitmq(url, settings) as other:
        assert await other.store.get([Key("a", "v")]) == [b"49"]


async def test_c7_time_passes_in_a_shard_that_always_has_something_else_to_do(backend: RabbitBackend) -> None:
    await backend.store.put([Put(Key("a", "v"), b"0")])
    found: list[Delivery] = []

    async def busy() -> None:
        while not found:
            await backend.store.put([Put(Key("a", "v"), b"1")])

    due = Settings().clock.now() + timedelta(seconds=0.5)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(busy)
        await backend.timers.park([Parcel("b:1", LANE, b"", due)])
        with anyio.fail_after(5):
            while not found:
                found += await take(backend, 1, timedelta(seconds=1))

    assert Settings().clock.now() >= due


async def test_c8_an_owner_leaves_a_shard_that_speaks_a_later_version(backend: RabbitBackend) -> None:
    await backend.store.put([Put(Key("a", "v"), b"1")])
    newer = wire.pack(wire.Request(wire.VERSION + 1, []))
    channel = await backend.asking.connected()

    await channel.publish([Frame(backend.asking.names.shard(0), newer)])

    with anyio.fail_after(10):
        while not backend.owners.refused:
            await anyio.sleep(0.05)
    assert backend.owners.running


async def test_c9_what_a_run_needs_has_no_age(backend: RabbitBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    await backend.store.put([Put(Key("a", "v"), b"1" * 100_000), Put(Key("a", "short"), b"1", timedelta(seconds=0.1))])
    monkeypatch.setattr(owner, "AGE_MOST", 0.2)
    await anyio.sleep(1)

    assert await backend.store.names("a", "") == ["v"]


async def test_c10_only_strikes_count_and_they_outlive_owners(
    backend: RabbitBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backend.transport.publish([parcel("a:1")])
    [taken] = await take(backend)
    assert await backend.transport.strike(taken) == 1
    await backend.transport.release([taken])
    shard = backend.owners.shard(0)
    assert shard is not None
    shard.leave()

    [again] = await take(backend, 1, SOON)

    assert again.deliveries == 1
    assert await backend.transport.strike(again) == 2


async def test_c11_a_letter_is_replayed_once_whoever_presses(
    url: str, settings: Settings, backend: RabbitBackend
) -> None:
    letter = DeadLetter("a:1", LANE, "app:task", b"", ErrorInfo("exception"), settings.clock.now())
    await backend.deadletters.bury([letter])
    answers: list[bool] = []
    async with open_rabbitmq(url, settings) as other, anyio.create_task_group() as group:

        async def press(client: RabbitBackend) -> None:
            answers.extend(await client.deadletters.replay([("a:1", parcel("b:1"))]))

        for client in (backend, other) * 3:
            group.start_soon(press, client)

    assert sorted(answers) == [False] * 5 + [True]
    assert [each.id for each in await take(backend, 10, SOON)] == ["b:1"]
    assert await backend.deadletters.page(Filter(), None, 9) == []


async def test_h5_of_two_submits_with_one_id_at_once_one_is_run(url: str, settings: Settings) -> None:
    app = Motet(url, namespace=settings.namespace)
    ran: list[int] = []

    @app.task(name="tests:note")
    async def note(number: int) -> int:
        ran.append(number)
        return number

    async with app, app.worker():
        runs = []
        async with anyio.create_task_group() as group:

            async def submit(number: int) -> None:
                runs.append(await note.s(number).submit(id="mine"))

            for number in range(5):
                group.start_soon(submit, number)
        assert len({await run.result(timeout=20) for run in runs}) == 1
        await anyio.sleep(0.5)

    assert len(ran) == 1


async def test_h6_a_cancelled_scope_is_known_within_a_second(url: str, settings: Settings) -> None:
    app = Motet(url, namespace=settings.namespace)
    began: list[int] = []

    @app.task(name="tests:slow")
    async def slow(number: int) -> None:
        began.append(number)
        await anyio.sleep(30)

    async with app, app.worker(concurrency=1):
        runs = [await slow.delay(number) for number in range(3)]
        with anyio.fail_after(10):
            while not began:
                await anyio.sleep(0.02)
        for run in reversed(runs):
            await run.cancel()
        await anyio.sleep(1.5)

    assert began == [0]


async def test_h9_a_long_task_is_held_past_the_consumer_timeout_and_runs_once(
    file_server: RabbitServer, settings: Settings
) -> None:
    url = f"{file_server.url}?shards=1&consumer_timeout=1"
    short = Settings(namespace=settings.namespace, lease=timedelta(seconds=1))
    async with open_rabbitmq(url, short) as backend, open_rabbitmq(url, short) as other:
        await backend.transport.publish([parcel("a:1")])
        [taken] = await take(backend, 1, SOON)
        await anyio.sleep(1.5)
        assert (await backend.publishing.topology.look(backend.asking.names.lane(LANE))) is not None
        assert backend.transport.holdings.held[taken.receipt].kept

        # The lane has it no more: that its connection goes does not bring it back.
        backend.consuming.abort()
        assert await take(other, 1, timedelta(seconds=2)) == []
        assert await backend.transport.find(["a"]) == ["held"]

        assert await settle(backend, [Once(Key("a", "o.0"), b"1")], taken)
        assert await backend.transport.find(["a"]) == [None]


async def test_h9_what_a_dead_worker_had_kept_comes_back_after_its_lease(
    file_server: RabbitServer, settings: Settings
) -> None:
    url = f"{file_server.url}?shards=1&consumer_timeout=1"
    short = Settings(namespace=settings.namespace, lease=timedelta(seconds=1))
    async with open_rabbitmq(url, short) as other:
        async with open_rabbitmq(url, short) as backend:
            await backend.transport.publish([parcel("a:1")])
            [taken] = await take(backend, 1, SOON)
            await anyio.sleep(1)
            assert backend.transport.holdings.held[taken.receipt].kept

        [again] = await take(other, 1, SOON)

        assert (again.body, again.deliveries, again.suspect) == (b"body", 2, True)


async def test_h10_locks_that_belong_to_different_runs_are_taken_together(backend: RabbitBackend) -> None:
    locks = [Lock(name, "mutex") for name in ("x", "y", "z")]
    assert isinstance(await backend.locks.acquire(locks[2:], "other", SOON), Grant)

    assert isinstance(await backend.locks.acquire(locks, "mine", SOON), Busy)

    assert [each.name for each in await backend.locks.held("")] == ["z"]


async def test_h11_a_timer_that_is_not_wanted_any_more_leaves_nothing(backend: RabbitBackend) -> None:
    due = Settings().clock.now() + timedelta(days=1)
    names = [f"a.{number}:t" for number in range(200)]
    await backend.timers.park([Parcel(name, LANE, b"body" * 100, due) for name in names])
    shard = backend.owners.shard(0)
    assert shard is not None
    parked = shard.machine.state.live

    assert all(await backend.timers.cancel(names))

    assert parked > 200 * 400
    assert shard.machine.state.live < 1000
    with anyio.fail_after(5):
        while len(shard.ledger) > 10:
            await anyio.sleep(0.01)


async def test_m1_no_more_is_held_than_was_asked_for(url: str, settings: Settings, backend: RabbitBackend) -> None:
    lanes = [Lane("mail", "small", priority) for priority in range(10)]
    await backend.transport.publish([Parcel(f"a.{lane.priority}:1", lane, b"") for lane in lanes for _ in range(1)])

    [taken] = await backend.transport.receive(lanes, 1, SOON)

    assert taken.lane == lanes[0]
    async with open_rabbitmq(url, settings) as other:
        found: list[Delivery] = []
        while len(found) < 9:
            found += await other.transport.receive(lanes, 10, SOON)
    assert len(found) == 9


async def test_m13_a_heartbeat_is_shorter_than_the_lease(file_server: RabbitServer) -> None:
    for lease, longest in ((15, 10), (9, 6), (60, 10)):
        settings = Settings(namespace="beats", lease=timedelta(seconds=lease))
        backend = RabbitBackend(locate(f"{file_server.url}?shards=1"), settings)

        assert backend.location.heartbeat == longest


async def test_clients_that_disagree_about_the_shards_are_told(file_server: RabbitServer, settings: Settings) -> None:
    async with open_rabbitmq(f"{file_server.url}?shards=1", settings):
        other = open_rabbitmq(f"{file_server.url}?shards=2", settings)
        with pytest.raises(Foreign, match="shards"):
            await other.__aenter__()


async def test_b4_a_guest_leaves_its_shards(backend: RabbitBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    await backend.store.put([Put(Key("a", "v"), b"1")])

    def owns() -> bool:
        return backend.owners.running

    assert owns()
    with anyio.fail_after(15):
        while owns():
            await anyio.sleep(0.1)

    assert await backend.store.get([Key("a", "v")]) == [b"1"]


async def test_no_error_of_a_shard_is_for_ever(backend: RabbitBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    await backend.store.put([Put(Key("a", "v"), b"1")])
    shard = backend.owners.shard(0)
    assert shard is not None

    def fails(*_: object) -> None:
        raise Died

    monkeypatch.setattr(shard.machine, "perform", fails)
    with pytest.raises(MotetError, match="the owner failed"):
        await backend.store.put([Put(Key("a", "v"), b"2")])

    assert await backend.store.get([Key("a", "v")]) == [b"1"]
