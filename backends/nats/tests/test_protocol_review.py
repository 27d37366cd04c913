"""The findings of the protocol's review that are about NATS, each by its number; and test_protocol_review_runs.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import count

import anyio
import pytest
from nats_server import RunningServer

from motet.failpoints import hit
from motet.message import DeadLetter, Key, Parcel
from motet.options import Lane
from motet.outcome import ErrorInfo, Kind
from motet.ports import Delivery, Entry, Schedule, Settings
from motet.program import Arrive, Once, Op, Open, Publish, Retry
from motet_nats import NatsBackend
from motet_nats import open as open_nats
from motet_nats.schedules import NatsSchedules

LANE = Lane("mail", "small", 1)
LEASE = timedelta(seconds=0.5)
numbers = count()


@pytest.fixture
def settings() -> Settings:
    return Settings(namespace=f"review{next(numbers)}", lease=LEASE)


@pytest.fixture
async def backend(server: RunningServer, settings: Settings) -> AsyncIterator[NatsBackend]:
    async with open_nats(server.url, settings) as backend:
        yield backend


async def take(backend: NatsBackend, limit: int = 1, wait: float = 0) -> list[Delivery]:
    return await backend.transport.receive([LANE], limit, timedelta(seconds=wait))


async def settle(backend: NatsBackend, program: Sequence[Op], delivery: Delivery | None = None) -> bool:
    (reply,) = await backend.settler.settle([Entry(program, delivery)])
    return not reply.conflicts


async def test_c3_whatever_may_have_run_says_so(backend: NatsBackend) -> None:
    due = Settings().clock.now() + timedelta(seconds=0.1)
    await backend.transport.publish([Parcel("fresh:0:r1", LANE, b""), Parcel("again:0:r1", LANE, b"", suspect=True)])
    await backend.timers.park([Parcel("late:0:r1", LANE, b"", due)])
    found: dict[str, bool] = {}
    while len(found) < 3:
        found |= {each.id: each.suspect for each in await take(backend, 10, 2)}
    assert found == {"fresh:0:r1": False, "again:0:r1": True, "late:0:r1": True}

    await anyio.sleep(LEASE.total_seconds() * 1.2)
    again = [each for _ in range(3) for each in await take(backend, 10, 0.5)]

    assert {each.id for each in again} == set(found)
    assert all(each.suspect for each in again)


async def test_c10_losing_leases_and_handing_back_never_counts_as_a_strike(backend: NatsBackend) -> None:
    await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
    for lost in range(3):
        (delivery,) = await take(backend, wait=2)
        assert (delivery.deliveries, delivery.suspect) == (lost + 1, lost > 0)
        await anyio.sleep(LEASE.total_seconds() * 1.2)
    (delivery,) = await take(backend, wait=2)
    await backend.transport.release([delivery])
    (delivery,) = await take(backend, wait=2)

    assert delivery.deliveries == 4
    assert await backend.transport.strike(delivery) == 1


async def test_c11_m8_of_any_number_that_replay_a_letter_one_does(
    server: RunningServer, settings: Settings, backend: NatsBackend
) -> None:
    error = ErrorInfo(kind=Kind.EXCEPTION)
    letter = DeadLetter("run:0:r1", LANE, "task", b"", error, Settings().clock.now())
    await backend.deadletters.bury([letter])
    answers: list[bool] = []

    async def press(number: int) -> None:
        async with open_nats(server.url, settings) as other:
            answers.extend(await other.deadletters.replay([(letter.id, Parcel("again:0:r1", LANE, b""))]))

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(press, number)

    assert sorted(answers) == [False] * 4 + [True]
    assert [delivery.id for delivery in await take(backend, 10)] == ["again:0:r1"]


async def test_c12_an_expander_killed_half_way_has_its_finished_children_look_before_they_run(
    backend: NatsBackend,
) -> None:
    """The second expander publishes all again: what is queued stays one, what has ended comes marked."""
    children = tuple(Parcel(f"run:{number}:r1", LANE, b"") for number in range(4))
    program: list[Op] = [Once(Key("run", "x.0"), b"expanded"), Publish(children)]
    await backend.store.put_once([Once(Key("run", "x.0"), b"expanded")])
    await backend.transport.publish(children[:2])
    (ended,) = await take(backend)
    await settle(backend, [Once(Key("run", "o.0"), b"done")], ended)

    await settle(backend, program)

    found = {each.id: each.suspect for each in await take(backend, 10)}
    assert sorted(found) == [f"run:{number}:r1" for number in range(4)]
    assert found[ended.id]
    assert not found["run:1:r1"]


async def test_c13_a_zombie_after_the_sweep_leaves_no_barrier_and_fires_no_group_of_one(backend: NatsBackend) -> None:
    key = Key("run", "b.0")
    fire: list[Op] = [Once(Key("run", "o.g"), b"all"), Publish((Parcel("run:1:r1", LANE, b""),))]
    await backend.store.open([Open(key, 1)])
    await settle(backend, [Arrive(key, 0, 0, fire)])
    await backend.transport.ack(await take(backend))
    while not await backend.store.sweep("run", 10):
        pass

    await settle(backend, [Arrive(key, 0, 0, fire)])

    assert await take(backend) == []
    assert await backend.store.names("run", "") == []
    assert await backend.store.barriers([key]) == [None]
    assert await backend.streams.subjects(backend.client.names.records, f"{backend.client.names.kept}.b.run.>") == []


async def test_c13_who_lost_a_message_removes_nothing_and_gives_nothing_back(
    server: RunningServer, settings: Settings, backend: NatsBackend
) -> None:
    """Not by a clock: the zombie thinks that its lease runs."""
    await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
    (stale,) = await take(backend)
    await anyio.sleep(LEASE.total_seconds() * 1.2)
    async with open_nats(server.url, settings) as other:
        (held,) = await take(other, wait=2)
        backend.transport.holding.until[stale.receipt] += 60

        assert backend.transport.extend([stale.receipt]) == [False]
        assert await backend.transport.strike(stale) == 0
        await backend.transport.release([stale])
        await backend.transport.ack([stale])

        assert await other.transport.find(["run"]) == ["held"]
        assert other.transport.extend([held.receipt]) == [True]


async def test_c14_h1_a_barrier_knows_how_many_failed(backend: NatsBackend) -> None:
    key = Key("run", "b.0")
    await backend.store.open([Open(key, 3, 1)])
    arrival = None
    for slot, failed in ((0, 0), (1, 2), (1, 0), (2, 1)):
        arrival = await backend.store.arrive(key, slot, failed)
    assert arrival is not None
    assert (arrival.arrived, arrival.failed) == (3, 3)


async def test_c15_a_barrier_fires_by_its_level_also_when_all_slots_had_arrived_before(backend: NatsBackend) -> None:
    key = Key("run", "b.0")
    await backend.store.open([Open(key, 2)])
    for slot in range(2):
        await backend.store.arrive(key, slot, 0)  # as by a worker that died before it fired

    fire = Arrive(key, 1, 0, [Once(Key("run", "o.0"), b"all"), Publish((Parcel("run:1:r1", LANE, b""),))])
    for _ in range(2):
        await settle(backend, [fire])

    assert [delivery.id for delivery in await take(backend, 10)] == ["run:1:r1"]


async def test_h12_a_scheduler_that_was_paused_for_long_fires_nothing_again(backend: NatsBackend) -> None:
    """It has read the schedule, and publishes a day later: what it read is old, whatever markers have expired."""
    due = Settings().clock.now().replace(microsecond=0)
    await backend.schedules.save(Schedule("s", due))
    tick = [Parcel("tick:0:r1", LANE, b"")]
    assert await backend.schedules.fire("s", due, due + timedelta(days=1), tick)
    await backend.transport.ack(await take(backend))

    assert not await backend.schedules.fire("s", due, due + timedelta(days=1), tick)
    assert await take(backend) == []


async def test_h12_what_a_scheduler_has_fired_that_died_is_published_by_another(
    backend: NatsBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):
        pass

    def die(name: str) -> None:
        if name == "after_fire":
            raise Died

    monkeypatch.setattr("motet_nats.schedules.hit", die)
    due = Settings().clock.now().replace(microsecond=0)
    await backend.schedules.save(Schedule("s", due))
    with pytest.raises(Died):
        await backend.schedules.fire("s", due, due + timedelta(days=1), [Parcel("tick:0:r1", LANE, b"")])
    monkeypatch.setattr("motet_nats.schedules.hit", hit)
    assert await take(backend) == []
    monkeypatch.setattr("motet_nats.schedules.PATIENCE", 0)

    assert await backend.schedules.due(due, 10) == []

    assert [(each.id, each.suspect) for each in await take(backend)] == [("tick:0:r1", True)]
    await backend.transport.ack(await take(backend, wait=1))
    schedules: NatsSchedules = backend.schedules
    assert await schedules.due(due, 10) == []
    assert await take(backend) == []


async def test_m7_h1_a_retry_is_a_parcel_of_its_own_and_parked_once(backend: NatsBackend) -> None:
    await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
    (first,) = await take(backend)
    due = Settings().clock.now() + timedelta(seconds=0.3)
    retry = Retry(Key("run", "a.0.2"), Parcel("run:0:r2", LANE, b"", due))
    for _ in range(2):
        await settle(backend, [retry], first)

    assert [each.id for each in await take(backend, 10, 2)] == ["run:0:r2"]


async def test_d5_what_is_taken_back_while_the_server_brings_it_is_never_delivered(backend: NatsBackend) -> None:
    """The server brings what it has read even when it is removed meanwhile; the promoter is switched off here."""
    backend.transport.promoter.promote = lambda *_: None  # type: ignore[method-assign]
    rounds, size = 3, 150
    for turn in range(rounds):
        due = Settings().clock.now() + timedelta(seconds=0.4)
        names = [f"run{turn}.{number}:0" for number in range(size)]
        await backend.timers.park([Parcel(name, LANE, b"", due) for name in names])
        await anyio.sleep(0.75)
        gone: list[bool] = []
        for first in range(0, size, 5):
            gone += await backend.timers.cancel(names[first : first + 5])
            await anyio.sleep(0.008)
        taken: list[str] = []
        while part := await take(backend, 200, 1):
            taken += [each.id for each in part]
            await backend.transport.ack(part)

        assert sorted(taken) == sorted(name for name, was in zip(names, gone, strict=True) if not was)
