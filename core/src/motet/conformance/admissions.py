"""Clauses T19 to T23: publishing subject to a key, in one step with the look at it."""

from __future__ import annotations

from datetime import timedelta

import anyio

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import NOW, SOON, Stage
from motet.message import Parcel
from motet.ports import Admission, Backend, Rule
from motet.program import Put

__all__ = ["AdmissionContract"]

LONG = timedelta(seconds=60)


async def admit(
    stage: Stage, backend: Backend, parcel: Parcel, rule: Rule, *, key: str = "key", window: timedelta = LONG
) -> str:
    """Admit one parcel, and return the name of the one that stands for the key."""
    admission = Admission(stage.name(key), rule, parcel, window, replaced=b"replaced")
    [standing] = await backend.transport.admit([admission])
    return stage.named([standing])[0]


class AdmissionContract(Contract):
    """Throttle, debounce and keep-last."""

    @proves("T19")
    async def test_t19_of_several_at_once_one_is_published_and_all_learn_its_id(self, stage: Stage) -> None:
        answers: list[str] = []

        async def submit(number: int) -> None:
            backend = (stage.a, stage.b)[number % 2]
            answers.append(await admit(stage, backend, stage.parcel(f".{number}:1"), Rule.FIRST))

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(submit, number)

        [winner] = set(answers)
        assert await stage.taken(stage.b) == [winner]

    @proves("T19")
    async def test_t19_every_key_is_looked_at_for_itself(self, stage: Stage) -> None:
        parcels = [stage.parcel(f".{number}:1") for number in range(4)]
        keys = ("x", "y", "x", "z")

        standing = await stage.a.transport.admit(
            [Admission(stage.name(key), Rule.FIRST, parcel, LONG) for key, parcel in zip(keys, parcels, strict=True)]
        )

        assert stage.named(standing) == [".0:1", ".1:1", ".0:1", ".3:1"]
        assert sorted(await stage.taken(stage.b)) == [".0:1", ".1:1", ".3:1"]

    @proves("T19", repeats=False)
    async def test_t19_admitting_again_what_is_gone_changes_nothing(self, stage: Stage) -> None:
        for rule in Rule:
            parcel = stage.parcel(f".{rule}:1", due=-1 if rule is Rule.DEBOUNCE else None)
            assert await admit(stage, stage.a, parcel, rule, key=rule) == f".{rule}:1"
            await stage.a.transport.ack([await stage.one(stage.a)])

            assert await admit(stage, stage.b, parcel, rule, key=rule) == f".{rule}:1"
            assert await stage.taken(stage.b) == []

    @proves("T19")
    async def test_t19_admitting_again_what_waits_changes_nothing(self, stage: Stage) -> None:
        await stage.prepare()
        for rule in Rule:
            name, due = f".{rule}:1", stage.stretched(0.2) if rule is Rule.DEBOUNCE else None
            for backend, body in ((stage.a, b"first"), (stage.b, b"again")):
                assert await admit(stage, backend, stage.parcel(name, body=body, due=due), rule, key=rule) == name

            taken = await stage.one(stage.b)
            assert (stage.named([taken.id]), taken.body) == ([name], b"first")
            assert await stage.a.store.get([stage.key("o.0", stage.id(f".{rule}"))]) == [None]

    @proves("T19")
    async def test_t19_what_lost_its_place_does_not_take_it_back(self, stage: Stage) -> None:
        await stage.prepare()
        for rule, due in ((Rule.DEBOUNCE, stage.stretched(0.2)), (Rule.KEEP_LAST, None)):
            first, last = (stage.parcel(f".{rule}{number}:1", due=due) for number in range(2))
            await admit(stage, stage.a, first, rule, key=rule)
            await admit(stage, stage.b, last, rule, key=rule)

            assert await admit(stage, stage.a, first, rule, key=rule) == f".{rule}1:1"
            assert (await stage.one(stage.b)).id == last.id
            assert await stage.taken(stage.b) == []

    @proves("T20")
    async def test_t20_first_publishes_once_in_a_window(self, stage: Stage) -> None:
        await stage.prepare()
        window = timedelta(seconds=stage.stretched(0.5))
        assert await admit(stage, stage.a, stage.parcel(".1:1"), Rule.FIRST, window=window) == ".1:1"
        assert await admit(stage, stage.b, stage.parcel(".2:1"), Rule.FIRST, window=window) == ".1:1"
        await stage.b.transport.ack(await stage.take(stage.b))
        await stage.sleep(stage.stretched(0.25))
        assert await admit(stage, stage.b, stage.parcel(".3:1"), Rule.FIRST, window=window) == ".1:1"

        # The window began with the publish: what was refused meanwhile has not made it longer.
        await stage.sleep(stage.stretched(0.4))

        assert await admit(stage, stage.b, stage.parcel(".4:1"), Rule.FIRST, window=window) == ".4:1"
        assert await stage.taken(stage.a) == [".4:1"]

    @proves("T21")
    async def test_t21_debounce_delivers_the_last_of_a_burst_at_its_time(self, stage: Stage) -> None:
        await stage.prepare()
        began = stage.now
        for number in range(3):
            parcel = stage.parcel(f".{number}:1", body=bytes([number]), due=1)
            backend = (stage.a, stage.b)[number % 2]
            assert await admit(stage, backend, parcel, Rule.DEBOUNCE) == f".{number}:1"
            await stage.sleep(0.2)

        taken = await stage.one(stage.a)

        assert taken.body == b"\x02"
        assert stage.now - began >= 1.35
        assert await stage.taken(stage.b) == []

    @proves("T21")
    async def test_t21_debounce_leaves_what_is_not_parked_any_more(self, stage: Stage) -> None:
        await stage.prepare()
        await admit(stage, stage.a, stage.parcel(".1:1", due=-1), Rule.DEBOUNCE)
        taken = await stage.one(stage.a)

        assert await admit(stage, stage.b, stage.parcel(".2:1", due=0.1), Rule.DEBOUNCE) == ".2:1"

        assert stage.a.transport.extend([taken.receipt]) == [True]
        assert stage.named([(await stage.one(stage.b)).id]) == [".2:1"]

    @proves("T21")
    async def test_t21_debounce_leaves_what_is_queued_or_gone(self, stage: Stage) -> None:
        await stage.prepare()
        await admit(stage, stage.a, stage.parcel(".1:1"), Rule.DEBOUNCE)
        late = stage.parcel(".2:1", due=stage.stretched(0.3))

        assert await admit(stage, stage.b, late, Rule.DEBOUNCE) == ".2:1"
        found: list[str] = []
        while len(found) < 2:
            taken = await stage.take(stage.b)
            assert taken
            await stage.b.transport.ack(taken)
            found += stage.named([each.id for each in taken])

        assert found == [".1:1", ".2:1"]
        assert await admit(stage, stage.a, stage.parcel(".3:1", due=0.1), Rule.DEBOUNCE) == ".3:1"
        assert await stage.taken(stage.b, wait=SOON) == [".3:1"]
        records = await stage.b.store.get([stage.key("o.0", stage.id(f".{number}")) for number in (1, 2, 3)])
        assert records == [None] * 3

    @proves("T22")
    async def test_t22_keep_last_replaces_what_waits(self, stage: Stage) -> None:
        for number in range(3):
            await admit(stage, stage.a, stage.parcel(f".{number}:1", body=bytes([number])), Rule.KEEP_LAST)

        [taken] = await stage.take(stage.b, wait=NOW)

        assert (taken.body, stage.named([taken.id])) == (b"\x02", [".2:1"])

    @proves("T22", patient=True)
    async def test_t22_keep_last_replaces_what_is_parked(self, stage: Stage) -> None:
        await stage.prepare()
        await admit(stage, stage.a, stage.parcel(".1:1", due=0.2), Rule.KEEP_LAST)
        await admit(stage, stage.a, stage.parcel(".2:1"), Rule.KEEP_LAST)

        assert await stage.taken(stage.b) == [".2:1"]
        await stage.sleep(0.4)
        assert await stage.taken(stage.b) == []

    @proves("T22")
    async def test_t22_keep_last_leaves_what_runs_and_lets_one_wait(self, stage: Stage) -> None:
        await admit(stage, stage.a, stage.parcel(".1:1"), Rule.KEEP_LAST)
        running = await stage.one(stage.a)

        assert await admit(stage, stage.b, stage.parcel(".2:1"), Rule.KEEP_LAST) == ".2:1"
        assert await admit(stage, stage.b, stage.parcel(".3:1"), Rule.KEEP_LAST) == ".3:1"

        assert stage.a.transport.extend([running.receipt]) == [True]
        [waited] = await stage.take(stage.b, wait=NOW)
        assert stage.named([waited.id]) == [".3:1"]
        await stage.b.transport.ack([waited])
        assert await admit(stage, stage.b, stage.parcel(".4:1"), Rule.KEEP_LAST) == ".4:1"
        assert await stage.taken(stage.b) == [".4:1"]

    @proves("T23")
    async def test_t23_who_lost_its_place_learns_of_it(self, stage: Stage) -> None:
        lost, decided, kept = (stage.id(f".{number}") for number in range(3))
        async with stage.b.signals.subscribe(lost) as wakeups:
            await admit(stage, stage.a, stage.parcel(".0:1"), Rule.KEEP_LAST)
            await admit(stage, stage.a, stage.parcel(".1:1"), Rule.KEEP_LAST)
            began = stage.now
            await wakeups.wait(SOON)
            assert stage.now - began < SOON.total_seconds() / 2
        await stage.a.store.put([_outcome(stage, decided)])
        await admit(stage, stage.a, stage.parcel(".2:1"), Rule.KEEP_LAST)

        records = await stage.b.store.get([stage.key("o.0", run) for run in (lost, decided, kept)])

        assert records == [b"replaced", b"mine", None]
        assert await stage.taken(stage.b) == [".2:1"]

    @proves("T23")
    async def test_t23_the_record_is_the_one_that_was_named(self, stage: Stage) -> None:
        for number in range(2):
            parcel = stage.parcel(f".{number}:1", due=60)
            given = Admission(stage.name("key"), Rule.DEBOUNCE, parcel, LONG, f"o.s.{number}", bytes([number]))
            await stage.a.transport.admit([given])

        assert await stage.b.store.names(stage.id(".0"), "") == ["o.s.1"]
        assert await stage.b.store.get([stage.key("o.s.1", stage.id(".0"))]) == [b"\x01"]
        assert await stage.b.store.names(stage.id(".1"), "") == []


def _outcome(stage: Stage, run: str) -> Put:
    return Put(stage.key("o.0", run), b"mine")
