"""Clauses D1 to D5: parcels that are kept until they are due."""

from __future__ import annotations

import anyio

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import NOW, SOON, Stage

__all__ = ["TimersContract"]


class TimersContract(Contract):
    """Port D."""

    @proves("D1", patient=True)
    async def test_d1_a_parked_parcel_comes_when_it_is_due(self, stage: Stage) -> None:
        began = stage.now
        await stage.a.timers.park([stage.parcel(":2", due=0.8), stage.parcel(":1", due=0.4)])

        assert await stage.taken(stage.b) == []
        assert await stage.taken(stage.b, wait=SOON) == [":1"]
        assert 0.35 <= stage.now - began < 0.75
        assert await stage.taken(stage.b, wait=SOON) == [":2"]
        assert 0.75 <= stage.now - began < 3

    @proves("D1", patient=True)
    async def test_d1_a_receiver_that_waits_already_is_woken_when_it_is_due(self, stage: Stage) -> None:
        for number, (parks, due) in enumerate(
            ((stage.a, 0.1), (stage.a, 0.8), (stage.b, 0.1), (stage.b, 0.8), (stage.b, 0.8))
        ):
            began = stage.now
            async with anyio.create_task_group() as group:
                group.start_soon(stage.one, stage.b)
                await stage.sleep(0.05)
                await parks.timers.park([stage.parcel(f".{number}:1", due=due)])

            assert stage.now - began < due + SOON.total_seconds() / 4

    @proves("D2")
    async def test_d2_a_parked_parcel_survives_its_sender(self, stage: Stage) -> None:
        async with stage.client() as sender:
            await sender.timers.park([stage.parcel(":1", due=0.1)])

        assert await stage.taken(stage.a, wait=SOON) == [":1"]

    @proves("D3")
    async def test_d3_parking_an_id_that_is_there_changes_nothing(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":q")])
        await stage.b.timers.park([stage.parcel(":q", body=b"other", due=60)])
        await stage.a.timers.park([stage.parcel(":p", due=60)])
        await stage.b.timers.park([stage.parcel(":p", due=-1)])

        taken = await stage.one(stage.b)
        await stage.a.timers.park([stage.parcel(":q", due=-1)])

        assert (taken.id, taken.body) == (stage.id(":q"), b"body")
        assert await stage.taken(stage.a) == []

    @proves("D4")
    async def test_d4_what_comes_through_timers_is_suspect(self, stage: Stage) -> None:
        await stage.a.timers.park([stage.parcel(":1", due=-1)])

        taken = await stage.one(stage.b)

        assert (taken.suspect, taken.deliveries) == (True, 1)

    @proves("D5")
    async def test_d5_cancel_takes_back_what_is_parked_and_says_so(self, stage: Stage) -> None:
        await stage.a.timers.park([stage.parcel(f".{number}:1", due=0.3) for number in range(3)])
        await stage.a.transport.publish([stage.parcel(".q:1")])

        asked = [stage.id(name) for name in (".1:1", ".q:1", ".unknown:1")]
        assert await stage.b.timers.cancel(asked) == [True, False, False]
        assert await stage.a.timers.cancel([stage.id(".1:1"), stage.id(".0:1")]) == [False, True]

        await stage.sleep(0.5)
        assert sorted(await stage.taken(stage.b)) == [".2:1", ".q:1"]

    @proves("D5", patient=True, repeats=False)
    async def test_d5_of_a_cancel_and_a_delivery_one_wins(self, stage: Stage) -> None:
        for moment in range(20):
            parcel = stage.parcel(f".{moment}:1", due=0)
            await stage.a.timers.park([parcel])
            taken: list[str] = []
            gone: list[bool] = []

            async def take(moment: int, into: list[str]) -> None:
                for _ in range(moment):
                    await anyio.lowlevel.checkpoint()
                into.extend(await stage.taken(stage.b))

            async with anyio.create_task_group() as group:
                group.start_soon(take, moment, taken)
                gone = await stage.a.timers.cancel([parcel.id])

            late = [] if taken or gone == [True] else await stage.taken(stage.b, wait=SOON)
            assert gone == [not (taken + late)]
            assert await stage.taken(stage.b, wait=NOW) == []
