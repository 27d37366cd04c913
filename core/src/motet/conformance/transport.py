"""Clauses T1 to T18: messages move from senders to workers, at least once."""

from __future__ import annotations

from datetime import timedelta
from threading import Thread

import anyio

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import NOW, SOON, Stage
from motet.options import Lane
from motet.ports import Backend, Delivery, QueueInfo

__all__ = ["TransportContract"]

MOMENTS = 24
"""At so many moments after a publish is a `receive` cancelled."""
LARGE = 512 * 1024


class TransportContract(Contract):
    """Port T, but for keyed publishes, which have a contract of their own."""

    @proves("T1")
    async def test_t1_published_parcels_survive_the_sender(self, stage: Stage) -> None:
        async with stage.client() as sender:
            await sender.transport.publish([stage.parcel(":1"), stage.parcel(":2", stage.aside, body=b"other")])

        found = {each.id: (each.lane, each.body) for each in await stage.take(stage.a)}

        assert found == {stage.id(":1"): (stage.high, b"body"), stage.id(":2"): (stage.aside, b"other")}

    @proves("T2")
    async def test_t2_a_delivery_is_invisible_while_its_lease_runs(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1")])

        assert await stage.taken(stage.a) == [":1"]
        assert await stage.taken(stage.b) == []
        assert await stage.taken(stage.a) == []

    @proves("T3", needs="lease")
    async def test_t3_an_unsettled_delivery_comes_back_charged_and_suspect(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1", body=b"kept")])
        taken = await stage.one(stage.a)
        began = stage.now

        again = await stage.one(stage.b)

        assert stage.now - began <= stage.lease.total_seconds() * 2 + 1
        assert (taken.deliveries, taken.suspect) == (1, False)
        assert (again.id, again.body) == (taken.id, b"kept")
        assert (again.deliveries, again.suspect) == (2, True)
        assert again.receipt != taken.receipt

    @proves("T3", needs="lease")
    async def test_t3_m13_a_lease_is_as_long_as_the_one_setting_says(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1")])
        began = stage.now
        await stage.one(stage.a)

        await stage.one(stage.b)

        assert stage.now - began >= stage.lease.total_seconds() * 0.8

    @proves("T4")
    async def test_t4_lanes_come_in_their_order_and_the_oldest_first(self, stage: Stage) -> None:
        lanes = {":o1": stage.aside, ":l1": stage.low, ":h1": stage.high, ":l2": stage.low, ":h2": stage.high}
        for name, lane in lanes.items():
            await stage.a.transport.publish([stage.parcel(name, lane)])

        assert await stage.taken(stage.b, limit=3) == [":h1", ":h2", ":l1"]
        assert await stage.taken(stage.b) == [":l2", ":o1"]

    @proves("T4")
    async def test_t4_a_batch_keeps_its_order(self, stage: Stage) -> None:
        names = [f":{number}" for number in range(50)]
        await stage.a.transport.publish([stage.parcel(name) for name in names])

        assert await stage.taken(stage.b, limit=50) == names

    @proves("T4")
    async def test_t4_a_lane_that_is_not_asked_for_is_left_alone(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1", stage.aside)])

        assert await stage.taken(stage.a, lanes=[stage.high, stage.low]) == []
        assert await stage.a.transport.receive([], 10, NOW) == []
        assert await stage.taken(stage.a) == [":1"]

    @proves("T5", repeats=False)
    async def test_t5_cancelling_receive_loses_nothing(self, stage: Stage) -> None:
        async def take(scope: anyio.CancelScope, taken: list[Delivery]) -> None:
            with scope:
                taken += await stage.take(stage.a)
                with anyio.CancelScope(shield=True):
                    await stage.a.transport.ack(taken)

        for moment in range(MOMENTS):
            parcel = stage.parcel(f".{moment}:1")
            scope = anyio.CancelScope()
            taken: list[Delivery] = []
            async with anyio.create_task_group() as group:
                group.start_soon(take, scope, taken)
                await stage.sleep(0.01)
                group.start_soon(stage.b.transport.publish, [parcel])
                for _ in range(moment):
                    await anyio.lowlevel.checkpoint()
                if moment % 2:
                    await anyio.sleep(moment * 0.0002)
                scope.cancel()

            if not taken:
                taken = await stage.take(stage.b)
                await stage.b.transport.ack(taken)
            assert [each.id for each in taken] == [parcel.id]

    @proves("T6")
    async def test_t6_receive_returns_with_the_first_message(self, stage: Stage) -> None:
        began = stage.now
        async with anyio.create_task_group() as group:
            group.start_soon(stage.take, stage.a)
            await stage.sleep(0.05)
            await stage.b.transport.publish([stage.parcel(":1")])

        assert stage.now - began < SOON.total_seconds() / 2

    @proves("T6")
    async def test_t6_receive_takes_at_most_the_limit(self, stage: Stage) -> None:
        await stage.b.transport.publish([stage.parcel(f":{number}") for number in range(5)])

        assert len(await stage.take(stage.a, limit=3)) == 3
        assert len(await stage.take(stage.a, limit=3)) == 2

    @proves("T6")
    async def test_t6_receive_returns_nothing_after_its_wait(self, stage: Stage) -> None:
        began = stage.now

        assert await stage.take(stage.a, wait=timedelta(seconds=0.2)) == []
        assert 0.19 <= stage.now - began < 2

    @proves("T6")
    async def test_t6_many_receivers_share_what_comes(self, stage: Stage) -> None:
        found: list[str] = []
        began = stage.now

        async def take(backend: Backend) -> None:
            found.extend(await stage.taken(backend, limit=1, wait=SOON))

        async with anyio.create_task_group() as group:
            for backend in (stage.a, stage.b) * 3:
                group.start_soon(take, backend)
            await stage.sleep(0.05)
            await stage.a.transport.publish([stage.parcel(f":{number}") for number in range(6)])

        assert sorted(found) == [f":{number}" for number in range(6)]
        assert stage.now - began < SOON.total_seconds() / 2

    @proves("T7")
    async def test_t7_release_gives_back_at_once_uncharged(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1"), stage.parcel(":2")])
        taken = await stage.take(stage.a)
        began = stage.now

        await stage.a.transport.release(taken)

        again = await stage.take(stage.b)
        assert {(each.id, each.deliveries) for each in again} == {(stage.id(":1"), 1), (stage.id(":2"), 1)}
        assert stage.now - began < SOON.total_seconds() / 2

    @proves("T7")
    async def test_t7_release_gives_back_after_its_delay(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1")])
        taken = await stage.take(stage.a)
        began = stage.now

        await stage.a.transport.release(taken, timedelta(seconds=0.3))

        assert await stage.taken(stage.b) == []
        again = await stage.one(stage.b)
        assert again.deliveries == 1
        assert 0.25 <= stage.now - began < 3

    @proves("T8", needs="lease")
    async def test_t8_a_lost_delivery_is_not_touched_by_its_old_holder(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1")])
        stale = await stage.one(stage.a)
        taken = await stage.one(stage.b)

        await stage.a.transport.release([stale])
        await stage.a.transport.ack([stale])

        assert stage.a.transport.extend([stale.receipt]) == [False]
        assert stage.b.transport.extend([taken.receipt]) == [True]
        assert await stage.taken(stage.a) == []
        assert await stage.b.transport.find([stage.run]) == ["held"]

    @proves("T9", needs="lease")
    async def test_t9_extend_keeps_a_delivery_from_any_thread(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1")])
        taken = await stage.one(stage.a)
        answers: list[list[bool]] = []

        for _ in range(4):
            await stage.sleep(stage.lease.total_seconds() / 2)
            thread = Thread(target=lambda: answers.append(stage.a.transport.extend([taken.receipt, "nonsense"])))
            thread.start()
            thread.join()

        assert answers == [[True, False]] * 4
        assert await stage.taken(stage.b) == []

    @proves("T9", needs="lease")
    async def test_t9_extend_of_a_lease_that_ran_out_is_refused(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1")])
        taken = await stage.one(stage.a)

        await stage.outlive_lease()

        assert stage.a.transport.extend([taken.receipt]) == [False]

    @proves("T10")
    async def test_t10_publishing_an_id_that_is_there_changes_nothing(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1"), stage.parcel(":1", body=b"other")])
        await stage.a.transport.publish([stage.parcel(":p", due=60)])
        await stage.b.transport.publish([stage.parcel(":1", stage.aside), stage.parcel(":p")])
        taken = await stage.one(stage.a)
        await stage.b.transport.publish([stage.parcel(":1")])

        assert (taken.body, taken.lane) == (b"body", stage.high)
        assert await stage.taken(stage.b) == []

    @proves("T10", repeats=False)
    async def test_t10_an_id_may_come_again_once_it_is_gone(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1")])
        await stage.a.transport.ack(await stage.take(stage.a))

        await stage.b.transport.publish([stage.parcel(":1", body=b"second")])

        assert (await stage.one(stage.b)).body == b"second"

    @proves("T11")
    async def test_t11_strikes_are_counted_and_only_by_strike(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1"), stage.parcel(":2")])
        taken = await stage.take(stage.a)
        assert await stage.a.transport.strike(taken[0]) == 1
        await stage.a.transport.release(taken)

        first, second = sorted(await stage.take(stage.b), key=lambda each: each.id)

        assert await stage.b.transport.strike(first) == 2
        assert await stage.b.transport.strike(second) == 1

    @proves("T11", needs="lease")
    async def test_t11_a_strike_is_refused_to_whoever_lost_the_message(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1")])
        stale = await stage.one(stage.a)
        assert await stage.a.transport.strike(stale) == 1
        taken = await stage.one(stage.b)

        assert await stage.a.transport.strike(stale) == 0
        assert await stage.b.transport.strike(taken) == 2

    @proves("T12")
    async def test_t12_a_paused_queue_delivers_nothing_until_it_is_resumed(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1"), stage.parcel(":o", stage.aside)])
        held = await stage.take(stage.a, limit=1)

        await stage.b.transport.pause(stage.queue)
        await stage.b.transport.publish([stage.parcel(":2", stage.low)])

        assert await stage.taken(stage.a) == [":o"]
        assert stage.a.transport.extend([each.receipt for each in held]) == [True]
        began = stage.now
        async with anyio.create_task_group() as group:
            group.start_soon(stage.one, stage.a)
            await stage.sleep(0.05)
            await stage.b.transport.pause(stage.queue, paused=False)
        assert stage.now - began < SOON.total_seconds() / 2

    @proves("T13")
    async def test_t13_find_says_where_the_messages_of_a_run_are(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel("held:1")])
        await stage.take(stage.a)
        await stage.a.transport.publish([stage.parcel("queued:1"), stage.parcel("parked:1", due=60)])
        await stage.a.transport.publish([stage.parcel("many:a:1")])

        runs = [stage.id(each) for each in ("held", "queued", "parked", "many", "unknown", "queue", "parked:1")]

        assert await stage.b.transport.find(runs) == ["held", "queued", "parked", "queued", None, None, None]

    @proves("T14")
    async def test_t14_parcels_that_may_have_run_are_delivered_as_suspect(self, stage: Stage) -> None:
        fresh, again, late = stage.parcel(":1"), stage.parcel(":2", suspect=True), stage.parcel(":3", due=0.05)
        await stage.a.transport.publish([fresh, again, late])
        found: dict[str, bool] = {}

        while len(found) < 3:
            taken = await stage.take(stage.b)
            assert taken
            found |= {each.id: each.suspect for each in taken}

        assert found == {fresh.id: False, again.id: True, late.id: True}

    @proves("T15")
    async def test_t15_queues_are_counted_over_their_lanes(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1"), stage.parcel(":2", stage.low), stage.parcel(":3", due=60)])
        await stage.a.transport.publish([stage.parcel(":4", stage.low), stage.parcel(":o", stage.aside)])
        await stage.a.transport.receive([stage.low], 1, NOW)

        assert await self._counted(stage) == [
            QueueInfo(stage.other, 1, 0, 0),
            QueueInfo(stage.queue, 2, 1, 1),
        ]

    @proves("T15")
    async def test_t15_a_paused_queue_is_listed_even_when_it_is_empty(self, stage: Stage) -> None:
        await stage.a.transport.pause(stage.queue)

        assert await self._counted(stage) == [QueueInfo(stage.queue, 0, 0, 0, paused=True)]
        await stage.a.transport.pause(stage.queue, paused=False)
        assert await self._counted(stage) == []

    async def _counted(self, stage: Stage) -> list[QueueInfo]:
        """List this stage's queues."""
        infos = await stage.b.transport.queues()
        return sorted((info for info in infos if info.queue in (stage.queue, stage.other)), key=lambda info: info.queue)

    @proves("T16")
    async def test_t16_a_paused_queue_can_be_emptied(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1"), stage.parcel(":2", stage.low)])
        await stage.a.transport.pause(stage.queue)

        assert await stage.taken(stage.b, paused=True) == [":1", ":2"]
        assert [info.paused for info in await self._counted(stage)] == [True]

    @proves("T17", repeats=False, patient=True)
    async def test_t17_move_brings_ready_messages_to_another_queue(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":held")])
        await stage.take(stage.a)
        await stage.a.transport.publish([stage.parcel(f":{number}", body=bytes([number])) for number in range(5)])
        await stage.a.transport.publish([stage.parcel(":low", stage.low), stage.parcel(":parked", due=60)])

        moved = 0
        while count := await stage.b.transport.move(stage.queue, stage.other, 2):
            assert count <= 2
            moved += count

        there = [Lane(stage.other, lane.size, lane.priority) for lane in (stage.high, stage.low)]
        found = await stage.take(stage.a, there, limit=10, wait=NOW)
        assert moved == 6
        assert stage.named([each.id for each in found]) == [":0", ":1", ":2", ":3", ":4", ":low"]
        assert [each.lane for each in found] == [there[0]] * 5 + [there[1]]
        assert [each.body for each in found[:5]] == [bytes([number]) for number in range(5)]
        assert [(info.ready, info.held, info.parked) for info in await self._counted(stage)] == [(0, 6, 0), (0, 1, 1)]

    @proves("T17", repeats=False)
    async def test_t17_a_moved_message_keeps_its_counts_and_its_id(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":1", suspect=True)])
        taken = await stage.one(stage.a)
        await stage.a.transport.strike(taken)
        await stage.a.transport.release([taken])

        await stage.b.transport.move(stage.queue, stage.other, 10)
        await stage.b.transport.publish([stage.parcel(":1")])

        there = Lane(stage.other, stage.high.size, stage.high.priority)
        [moved] = await stage.take(stage.a, [there])
        assert (moved.id, moved.lane, moved.suspect) == (taken.id, there, True)
        assert await stage.a.transport.strike(moved) == 2
        assert await stage.taken(stage.b) == []

    @proves("T18")
    async def test_t18_bodies_are_opaque(self, stage: Stage) -> None:
        bodies = [b"", b"\x00", bytes(range(256)), b"\xff\xfe not utf-8", b'{"json": 1}', b"\xc1" * LARGE]
        await stage.a.transport.publish([stage.parcel(f":{number}", body=body) for number, body in enumerate(bodies)])

        found: list[bytes] = []
        while len(found) < len(bodies):
            taken = await stage.take(stage.b)
            assert taken
            found += [each.body for each in taken]

        assert found == bodies
