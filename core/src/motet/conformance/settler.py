"""Clauses P1 to P11: a settlement takes effect in its order, once, and acknowledges last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import NOW, SOON, Stage
from motet.errors import MotetError
from motet.ports import Entry, Lock, Reply
from motet.program import UP, Arrive, Conflict, Do, Drop, Flag, Guard, Once, Op, Open, Publish, Put, Retry

__all__ = ["SettlerContract"]

DEEP = 16
MANY = 1000


class SettlerContract(Contract):
    """Port P."""

    @proves("P1")
    async def test_p1_every_op_takes_effect_and_the_delivery_is_gone(self, stage: Stage) -> None:
        await stage.a.store.put([Put(stage.key("gone"), b"1")])
        await stage.a.transport.publish([stage.parcel(":0")])
        taken = await stage.one(stage.a)

        reply = await stage.settle(
            stage.a,
            Once(stage.key("o.0"), b"out"),
            Put(stage.key("v"), b"value"),
            Drop(stage.key("gone")),
            Open(stage.key("b"), 2, 1),
            Retry(stage.key("a.1"), stage.parcel(".retry:1", due=60)),
            Flag(stage.run, "", 0, 1),
            Do([Guard((stage.key("v"),)), Put(stage.key("never"), b"")]),
            Publish((stage.parcel(".next:1"), stage.parcel(".later:1", due=60))),
            delivery=taken,
        )

        assert reply == Reply()
        records = await stage.b.store.get([stage.key(name) for name in ("o.0", "v", "gone", "never")])
        assert records == [b"out", b"value", None, None]
        assert await stage.b.store.barriers([stage.key("b")]) != [None]
        assert (await stage.flagged(stage.b, None, 1))[1] == {Flag(stage.run, "", 0, 1)}
        assert await stage.taken(stage.b) == [".next:1"]
        assert await stage.b.timers.cancel([stage.id(".retry:1"), stage.id(".later:1")]) == [True, True]
        assert await stage.b.transport.find([stage.run]) == [None]

    @proves("P1")
    async def test_p1_with_a_conflict_nothing_is_acknowledged(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":0")])
        taken = await stage.one(stage.a)
        await stage.b.store.put_once([Once(stage.key("o.0"), b"theirs")])

        reply = await stage.settle(stage.a, Once(stage.key("o.0"), b"mine"), delivery=taken)

        assert reply == Reply((Conflict(stage.key("o.0"), b"theirs"),))
        assert await stage.b.transport.find([stage.run]) == ["held"]
        assert (await stage.settle(stage.a, delivery=taken)).conflicts == ()
        assert await stage.b.transport.find([stage.run]) == [None]

    @proves("P2", repeats=False)
    async def test_p2_settling_twice_changes_nothing_the_second_time(self, stage: Stage) -> None:
        await stage.a.store.open([Open(stage.key("b"), 1)])
        fire = (Once(stage.key("o.g"), b"2"), Publish((stage.parcel(".next:1"),)))
        program = (Once(stage.key("o.0"), b"1"), Arrive(stage.key("b"), 0, 0, fire))
        await stage.settle(stage.a, *program)
        taken = await stage.one(stage.b)

        assert await stage.settle(stage.b, *program, delivery=taken) == Reply()
        await stage.settle(stage.a, *program)

        again = await stage.take(stage.b, wait=NOW)
        # Without `atomic` the continuation is published again, but marked: it may have run before.
        assert all(each.suspect for each in again)
        assert not (again and stage.a.capabilities.atomic)

    @proves("P3")
    async def test_p3_a_conflict_ends_its_branch_only(self, stage: Stage) -> None:
        await stage.b.store.put_once([Once(stage.key("x"), b"theirs")])

        reply = await stage.settle(
            stage.a,
            Do([Once(stage.key("x"), b"mine"), Put(stage.key("inside"), b"1")]),
            Put(stage.key("outside"), b"1"),
        )

        assert reply.conflicts == (Conflict(stage.key("x"), b"theirs"),)
        assert await stage.b.store.get([stage.key("inside"), stage.key("outside")]) == [None, b"1"]

    @proves("P3")
    async def test_p3_a_conflict_inside_a_completed_barrier_is_answered(self, stage: Stage) -> None:
        await stage.b.store.put_once([Once(stage.key("o.g"), b"theirs")])
        await stage.a.store.open([Open(stage.key("b"), 1)])
        inside = (Once(stage.key("o.g"), b"mine"), Publish((stage.parcel(".never:1"),)))

        reply = await stage.settle(stage.a, Arrive(stage.key("b"), 0, 0, inside), Put(stage.key("after"), b"1"))

        assert reply.conflicts == (Conflict(stage.key("o.g"), b"theirs"),)
        assert await stage.taken(stage.b) == []
        assert await stage.read(stage.b, "after") == b"1"

    @proves("P3")
    async def test_p3_a_guard_ends_its_branch_without_a_conflict(self, stage: Stage) -> None:
        await stage.b.store.put([Put(stage.key("x.0"), b"1")])
        guard = Guard((stage.key("x.1"), stage.key("x.0")))

        reply = await stage.settle(
            stage.a, Do([guard, Publish((stage.parcel(".never:1"),))]), Publish((stage.parcel(".next:1"),))
        )

        assert reply == Reply()
        assert await stage.taken(stage.b) == [".next:1"]

    @proves("P3")
    async def test_p3_h1_a_barrier_chooses_its_branch_by_its_failures(self, stage: Stage) -> None:
        inner, outer = stage.key("b.1"), stage.key("b.0")
        await stage.settle(stage.a, Open(outer, 1, 1), Open(inner, 3, 1))

        def arrive(slot: int, failed: int) -> Arrive:
            ok, err = Put(stage.key("ok"), b"1"), Put(stage.key("err"), b"1")
            return Arrive(inner, slot, failed, (), (Arrive(outer, 0, UP, (ok,), (err,)),))

        await stage.a.settler.settle([Entry([arrive(0, 1)]), Entry([arrive(1, 0)]), Entry([arrive(2, 1)])])

        assert await stage.b.store.get([stage.key("ok"), stage.key("err")]) == [None, b"1"]
        [barrier] = await stage.b.store.barriers([outer])
        assert barrier is not None
        assert barrier.failed == 2

    @proves("P3")
    async def test_p3_a_fast_barrier_is_decided_by_the_failure_too_many(self, stage: Stage) -> None:
        key = stage.key("b")
        await stage.settle(stage.a, Open(key, 9, 1, True))

        def arrive(slot: int, failed: int) -> Arrive:
            return Arrive(key, slot, failed, (), (Put(stage.key("err"), b"1"),))

        await stage.settle(stage.a, arrive(0, 1))
        assert await stage.read(stage.b, "err") is None
        await stage.settle(stage.b, arrive(5, 1))

        assert await stage.read(stage.b, "err") == b"1"

    @proves("P3")
    async def test_p3_a_closed_barrier_ends_its_branch(self, stage: Stage) -> None:
        arrive = Arrive(stage.key("closed"), 0, 0, (Put(stage.key("no"), b""),), (Put(stage.key("no"), b""),))

        assert await stage.settle(stage.a, Do([arrive]), Put(stage.key("yes"), b"1")) == Reply()
        assert await stage.b.store.get([stage.key("no"), stage.key("yes")]) == [None, b"1"]

    @proves("P4", needs="atomic")
    async def test_p4_a_lost_delivery_has_no_effect(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":0")])
        stale = await stage.one(stage.a)
        taken = await stage.one(stage.b)

        late = await stage.settle(stage.a, Put(stage.key("v"), b"late"), delivery=stale)

        # A reply that was lost looks like success; what counts is that nothing happened.
        assert late.conflicts == ()
        assert await stage.read(stage.b, "v") is None
        assert await stage.b.transport.find([stage.run]) == ["held"]
        await stage.settle(stage.b, Put(stage.key("v"), b"taken"), delivery=taken)
        await stage.settle(stage.b, Put(stage.key("v"), b"again"), delivery=taken)
        assert await stage.read(stage.a, "v") == b"taken"

    @proves("P4", needs="atomic", repeats=False)
    async def test_p4_a_lost_delivery_is_answered_as_lost(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":0")])
        stale = await stage.one(stage.a)
        taken = await stage.one(stage.b)

        assert (await stage.settle(stage.a, delivery=stale)).lost
        assert not (await stage.settle(stage.b, delivery=taken)).lost
        assert (await stage.settle(stage.b, delivery=taken)).lost

    @proves("P5", needs="atomic", repeats=False)
    async def test_p5_a_settlement_that_is_cancelled_was_applied_whole_or_not_at_all(self, stage: Stage) -> None:
        for moment in range(24):
            names = [f"v.{moment}.{number}" for number in range(20)]
            program = [Put(stage.key(name), b"1") for name in names]
            async with anyio.create_task_group() as group:
                group.start_soon(stage.a.settler.settle, [Entry(program)])
                for _ in range(moment):
                    await anyio.lowlevel.checkpoint()
                if moment % 3 == 2:
                    await anyio.sleep(moment * 0.0001)
                group.cancel_scope.cancel()

            # What is still on its way arrives before this: a backend keeps the order of one client's calls.
            await stage.a.store.put([Put(stage.key("after"), b"1")])
            assert len(await stage.b.store.names(stage.run, f"v.{moment}.")) in (0, len(names))

    @proves("P6", repeats=False)
    async def test_p6_an_entry_that_fails_does_not_undo_the_others(self, stage: Stage) -> None:
        nothing: Any = object()
        bad = Entry([Publish((stage.parcel(".bad:1", body=nothing),))])
        good = [Entry([Put(stage.key(f"v.{n}"), b"1"), Publish((stage.parcel(f".{n}:1"),))]) for n in range(2)]

        with pytest.raises(MotetError):
            await stage.a.settler.settle([good[0], bad, good[1]])

        assert sorted(await stage.b.store.names(stage.run, "v.")) == ["v.0", "v.1"]
        assert sorted(await stage.taken(stage.b)) == [".0:1", ".1:1"]

    @proves("P6")
    async def test_p6_a_conflict_of_one_entry_leaves_the_others(self, stage: Stage) -> None:
        await stage.b.store.put_once([Once(stage.key("o.1"), b"theirs")])

        replies = await stage.a.settler.settle(
            [Entry([Once(stage.key(f"o.{n}"), b"mine"), Put(stage.key(f"v.{n}"), b"1")]) for n in range(3)]
        )

        assert [bool(reply.conflicts) for reply in replies] == [False, True, False]
        assert await stage.b.store.get([stage.key(f"v.{n}") for n in range(3)]) == [b"1", None, b"1"]

    @proves("P6")
    async def test_p6_entries_of_a_batch_see_each_other_in_order(self, stage: Stage) -> None:
        size = 100
        fire = (Once(stage.key("o.g"), b"1", ends=True), Publish((stage.parcel(".next:1"),)))
        await stage.settle(stage.a, Open(stage.key("b"), size))

        replies = await stage.a.settler.settle(
            [
                Entry([Once(stage.key(f"o.{slot}"), b"x"), Arrive(stage.key("b"), slot, 0, fire)])
                for slot in reversed(range(size))
            ]
        )

        assert not any(reply.conflicts for reply in replies)
        assert len(replies) == size
        assert await stage.taken(stage.b) == [".next:1"]
        [barrier] = await stage.b.store.barriers([stage.key("b")])
        assert barrier is not None
        assert barrier.arrived == tuple(reversed(range(size)))

    @proves("P7")
    async def test_p7_what_a_settlement_published_survives_its_sender(self, stage: Stage) -> None:
        async with stage.client() as sender:
            await stage.settle(sender, Publish((stage.parcel(".1:1"), stage.parcel(".2:1", due=0.05))))
        await stage.sleep(0.2)

        found: list[str] = []
        while len(found) < 2:
            taken = await stage.taken(stage.b, wait=SOON)
            assert taken
            found += taken

        assert sorted(found) == [".1:1", ".2:1"]

    @proves("P9", needs="locks")
    async def test_p9_locks_are_let_go_with_the_acknowledgement(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":0")])
        taken = await stage.one(stage.a)
        await self._lock(stage, "owner")

        await stage.settle(stage.a, Put(stage.key("v"), b"1"), delivery=taken, release=stage.name("owner"))

        assert await self._lock(stage, "next")

    @proves("P9", needs="locks")
    async def test_p9_locks_are_kept_when_there_was_a_conflict(self, stage: Stage) -> None:
        await stage.a.transport.publish([stage.parcel(":0")])
        taken = await stage.one(stage.a)
        await self._lock(stage, "owner")
        await stage.b.store.put_once([Once(stage.key("o.0"), b"theirs")])

        await stage.settle(stage.a, Once(stage.key("o.0"), b"mine"), delivery=taken, release=stage.name("owner"))

        assert not await self._lock(stage, "next")

    async def _lock(self, stage: Stage, owner: str) -> bool:
        """Ask for the one lock of these tests."""
        answer = await stage.b.locks.acquire([Lock(stage.name("m"), "mutex")], stage.name(owner), SOON)
        return hasattr(answer, "fence")

    @proves("P10")
    async def test_p10_barriers_may_be_nested_deep(self, stage: Stage) -> None:
        await stage.settle(stage.a, *(Open(stage.key(f"b.{level}"), 1) for level in range(DEEP)))
        branch: Sequence[Op] = (Publish((stage.parcel(".next:1"),)),)
        for level in range(DEEP):
            once = Once(stage.key(f"o.{level}"), str(level).encode())
            branch = (Arrive(stage.key(f"b.{level}"), 0, 0, (once, *branch)),)

        assert await stage.settle(stage.a, *branch) == Reply()

        assert len(await stage.b.store.names(stage.run, "o.")) == DEEP
        assert await stage.taken(stage.b) == [".next:1"]

    @proves("P10")
    async def test_p10_a_program_may_publish_a_thousand_parcels(self, stage: Stage) -> None:
        await stage.settle(stage.a, Publish(tuple(stage.parcel(f".{number}:1") for number in range(MANY))))

        found: list[str] = []
        while len(found) < MANY:
            taken = await stage.taken(stage.b, limit=MANY, wait=SOON)
            assert taken
            found += taken

        assert found == [f".{number}:1" for number in range(MANY)]

    @proves("P11")
    async def test_p11_h1_a_retry_is_parked_once(self, stage: Stage) -> None:
        retry = Retry(stage.key("a.0.2"), stage.parcel(".2:1", due=-1))
        await stage.settle(stage.a, retry)
        taken = await stage.one(stage.b)
        await stage.settle(stage.b, delivery=taken)

        # Where it cannot be one step with its mark, it may come a second time, but as suspect (C3).
        await stage.settle(stage.a, retry)

        again = await stage.take(stage.b, wait=NOW)
        assert all(each.suspect for each in again)
        assert not (again and stage.a.capabilities.atomic)
