"""Which lanes a client asks, which it waits at, and what it is told meanwhile."""

import asyncio
from datetime import timedelta

from motet.message import Parcel
from motet.options import Lane
from motet_nats import NatsBackend

HIGH, LOW = Lane("mail", "small", 0), Lane("mail", "small", 2)
LONG, AT_ONCE = timedelta(seconds=5), timedelta()


def parcels(lane: Lane, first: int, how_many: int) -> list[Parcel]:
    return [Parcel(f"{lane.priority}-{number}:0", lane, b"") for number in range(first, first + how_many)]


async def received(worker: NatsBackend, limit: int, wait: timedelta) -> list[str]:
    taken = await worker.transport.receive([HIGH, LOW], limit, wait)
    await worker.transport.ack(taken)
    return [delivery.id for delivery in taken]


async def calmed(worker: NatsBackend, client: NatsBackend) -> None:
    """Have the worker wait at both lanes, and get the only message of the high one."""
    waiting = asyncio.ensure_future(received(worker, 1, LONG))
    while not worker.transport.lanes.tap(HIGH).armed():
        await asyncio.sleep(0.001)
    await client.transport.publish(parcels(HIGH, 0, 1))
    assert await waiting == ["0-0:0"]
    assert worker.transport.lanes.tap(HIGH).calm


async def test_what_is_higher_waits_for_one_batch_at_most(worker: NatsBackend, client: NatsBackend) -> None:
    await calmed(worker, client)
    await client.transport.publish([*parcels(LOW, 0, 60), *parcels(HIGH, 1, 1)])

    batches = [await received(worker, 20, LONG) for _ in range(2)]

    assert "0-1:0" in batches[0] + batches[1][:1]


async def test_who_does_not_wait_is_given_all_that_there_is(worker: NatsBackend, client: NatsBackend) -> None:
    await calmed(worker, client)
    await client.transport.publish([*parcels(HIGH, 1, 3), *parcels(LOW, 0, 3)])

    assert await received(worker, 10, AT_ONCE) == [f"0-{n}:0" for n in (1, 2, 3)] + [f"2-{n}:0" for n in range(3)]


async def test_who_waits_where_it_was_calm_is_woken_for_each(worker: NatsBackend, client: NatsBackend) -> None:
    await calmed(worker, client)

    for number in range(1, 4):
        waiting = asyncio.ensure_future(received(worker, 10, LONG))
        await asyncio.sleep(0.01)
        await client.transport.publish(parcels(HIGH, number, 1))
        assert await waiting == [f"0-{number}:0"]


async def test_a_lane_above_a_full_batch_is_watched_and_what_comes_there_comes_first(
    worker: NatsBackend, client: NatsBackend
) -> None:
    await client.transport.publish(parcels(LOW, 0, 60))
    assert len(await received(worker, 20, LONG)) == 20
    assert worker.transport.lanes.tap(HIGH).armed()

    await client.transport.publish(parcels(HIGH, 0, 1))
    while not worker.transport.lanes.tap(HIGH).came:
        await asyncio.sleep(0.001)

    assert (await received(worker, 20, LONG))[0] == "0-0:0"
