from collections.abc import AsyncIterator

import pytest

from motet import Motet, TaskCancelled, TaskFailed, group
from motet.engine.control import Control
from motet.engine.purge import Purge
from motet.message import Parcel
from motet.options import Lane
from motet.ports import Filter

app = Motet()


@app.task(queue="mail")
async def send(n: int) -> int:
    return n


@app.task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@pytest.fixture
async def purge() -> AsyncIterator[Purge]:
    async with app:
        control = Control(app.backend, app.client.plans, app.client.values, app.clock, app.lease)
        yield Purge(app.backend, control, app.clock)


async def test_purged_calls_are_cancelled_and_whoever_waits_is_told(purge: Purge) -> None:
    handles = [await send.delay(n) for n in range(250)]

    assert await purge.queue("mail") == 250

    with pytest.raises(TaskCancelled, match="purged from queue mail"):
        await handles[200].result(timeout=0)
    assert await purge.queue("mail") == 0


async def test_purged_members_end_their_chord(purge: Purge) -> None:
    run = await (group(send.s(n) for n in range(3)) | total.s()).submit()
    async with app.worker(queues=("default",)) as worker:
        while (
            not (infos := [i for i in await app.backend.transport.queues() if i.queue == "mail"]) or not infos[0].ready
        ):
            await worker.clock.sleep(0.01)

        assert await purge.queue("mail") == 3
        with pytest.raises((TaskCancelled, TaskFailed)):
            await run.result(timeout=5)


async def test_parked_messages_stay(purge: Purge) -> None:
    handle = await send.s(1).submit(delay=60)

    assert await purge.queue("mail") == 0
    assert not await handle.ready()


async def test_undecodable_message_is_kept_as_a_dead_letter(purge: Purge) -> None:
    await app.backend.transport.publish([Parcel("r1:0:1", Lane("mail", "medium", 1), b"\xc1")])

    assert await purge.queue("mail") == 1
    assert [letter.id for letter in await app.backend.deadletters.page(Filter(), None, 9)] == ["r1:0:1"]
