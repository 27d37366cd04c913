"""Clauses S1 to S15: records are written once, barriers are sets, nothing outlives its run."""

from __future__ import annotations

from datetime import timedelta

import anyio

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import Stage
from motet.program import Arrival, Flag, Once, Open, Put

__all__ = ["StoreContract"]

SHORT = timedelta(seconds=0.3)
LARGE = 1024 * 1024


class StoreContract(Contract):
    """Port S."""

    @proves("S1")
    async def test_s1_put_once_writes_where_nothing_is(self, stage: Stage) -> None:
        key, other = stage.key("o.0"), stage.key("o.1")

        assert await stage.a.store.put_once([Once(key, b"1"), Once(other, b"2")]) == [None, None]
        assert await stage.b.store.put_once([Once(key, b"3")]) == [b"1"]
        assert await stage.b.store.get([key, other, stage.key("o.2")]) == [b"1", b"2", None]

    @proves("S1")
    async def test_s1_a_batch_sees_its_own_writes(self, stage: Stage) -> None:
        key = stage.key("o.0")

        await stage.a.store.put_once([Once(key, b"1"), Once(key, b"2")])

        assert await stage.b.store.get([key]) == [b"1"]

    @proves("S1")
    async def test_s1_of_many_at_once_one_wins_and_all_learn_it(self, stage: Stage) -> None:
        learned: set[bytes] = set()

        async def write(number: int) -> None:
            mine = str(number).encode()
            [stored] = await (stage.a, stage.b)[number % 2].store.put_once([Once(stage.key("o.0"), mine)])
            learned.add(mine if stored is None else stored)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(write, number)

        assert learned == {await stage.read(stage.a, "o.0")}

    @proves("S2")
    async def test_s2_who_was_told_of_a_write_reads_it(self, stage: Stage) -> None:
        for number in range(20):
            value = str(number).encode()
            # Both have looked before: neither may remember that nothing was there.
            assert [await stage.read(backend, f"o.{number}") for backend in (stage.a, stage.b)] == [None, None]
            await (stage.a, stage.b)[number % 2].store.put_once([Once(stage.key(f"o.{number}"), value)])

            assert await stage.read(stage.b, f"o.{number}") == value
            assert await stage.read(stage.a, f"o.{number}") == value

    @proves("S3")
    async def test_s3_a_slot_counts_once_with_the_failures_of_its_first_arrival(self, stage: Stage) -> None:
        key = stage.key("b.0")
        await stage.a.store.open([Open(key, 3, 1, True)])
        await stage.a.store.arrive(key, 2, 1)
        await stage.b.store.arrive(key, 2, 0)
        await stage.b.store.arrive(key, 0, 0)
        await stage.a.store.arrive(key, 0, 3)

        [barrier] = await stage.b.store.barriers([key])

        assert barrier is not None
        assert (barrier.size, barrier.arrived, barrier.failed) == (3, (2, 0), 1)
        assert (barrier.max_failed, barrier.fast) == (1, True)

    @proves("S3")
    async def test_s3_slots_that_arrive_at_once_all_count(self, stage: Stage) -> None:
        key = stage.key("b.0")
        await stage.a.store.open([Open(key, 256)])

        async def arrive(slot: int) -> None:
            await (stage.a, stage.b)[slot % 2].store.arrive(key, slot, slot % 2)

        async with anyio.create_task_group() as group:
            for slot in range(40):
                group.start_soon(arrive, slot)

        [barrier] = await stage.b.store.barriers([key])
        assert barrier is not None
        assert (sorted(barrier.arrived), barrier.failed) == (list(range(40)), 20)

    @proves("S4")
    async def test_s4_arrive_answers_from_the_level(self, stage: Stage) -> None:
        key = stage.key("b.0")
        await stage.a.store.open([Open(key, 2)])

        assert await stage.a.store.arrive(key, 0, 0) == Arrival(2, 1, 0)
        assert await stage.a.store.arrive(key, 1, 4) == Arrival(2, 2, 4)
        assert await stage.b.store.arrive(key, 1, 4) == Arrival(2, 2, 4)
        assert await stage.b.store.arrive(key, 0, 0) == Arrival(2, 2, 4)

    @proves("S5")
    async def test_s5_arrive_at_an_unknown_barrier_creates_nothing(self, stage: Stage) -> None:
        key = stage.key("b.9")

        assert await stage.a.store.arrive(key, 0, 0) is None
        assert await stage.b.store.barriers([key]) == [None]
        assert await stage.b.store.arrive(key, 1, 0) is None

    @proves("S6")
    async def test_s6_open_of_an_existing_barrier_changes_nothing(self, stage: Stage) -> None:
        key = stage.key("b.0")
        await stage.a.store.open([Open(key, 3, 1)])
        await stage.a.store.arrive(key, 1, 1)

        await stage.b.store.open([Open(key, 9, 9, True)])

        [barrier] = await stage.a.store.barriers([key])
        assert barrier is not None
        assert (barrier.size, barrier.arrived, barrier.failed) == (3, (1,), 1)
        assert (barrier.max_failed, barrier.fast) == (1, False)

    @proves("S7")
    async def test_s7_a_record_with_a_ttl_goes_and_one_without_stays(self, stage: Stage) -> None:
        short, also, kept = stage.key("short"), stage.key("also"), stage.key("kept")
        await stage.a.store.put_once([Once(short, b"1", SHORT), Once(kept, b"1")])
        await stage.a.store.put([Put(also, b"1", SHORT)])
        assert await stage.b.store.get([short, also, kept]) == [b"1", b"1", b"1"]

        await stage.sleep(0.6)

        assert await stage.b.store.get([short, also, kept]) == [None, None, b"1"]
        assert await stage.b.store.names(stage.run, "") == ["kept"]

    @proves("S7")
    async def test_s7_what_has_expired_may_be_written_again(self, stage: Stage) -> None:
        key = stage.key("short")
        await stage.a.store.put_once([Once(key, b"1", SHORT)])
        await stage.sleep(0.6)

        assert await stage.b.store.put_once([Once(key, b"2")]) == [None]
        assert await stage.read(stage.a, "short") == b"2"

    @proves("S8", repeats=False)
    async def test_s8_sweep_removes_a_run_little_by_little(self, stage: Stage) -> None:
        await stage.a.store.put([Put(stage.key(f"o.{number}"), b"1") for number in range(6)])

        assert await stage.b.store.sweep(stage.run, 2) is False
        assert len(await stage.b.store.names(stage.run, "")) >= 4
        for _ in range(9):
            if await stage.b.store.sweep(stage.run, 2):
                break

        assert await stage.a.store.names(stage.run, "") == []
        assert await stage.b.store.sweep(stage.run, 2) is True

    @proves("S8", repeats=False)
    async def test_s8_sweep_removes_barriers_and_leaves_other_runs(self, stage: Stage) -> None:
        runs = [stage.run, stage.id("s"), stage.run[:-1]]
        await stage.a.store.put([Put(stage.key("o.0", run), b"1") for run in runs])
        await stage.a.store.open([Open(stage.key("b.0", run), 2) for run in runs])
        for _ in range(9):
            if await stage.b.store.sweep(stage.run, 2):
                break

        barriers = await stage.a.store.barriers([stage.key("b.0", run) for run in runs])
        records = await stage.a.store.get([stage.key("o.0", run) for run in runs])

        assert [each is None for each in barriers] == [True, False, False]
        assert records == [None, b"1", b"1"]

    @proves("S9")
    async def test_s9_flags_are_read_after_a_cursor(self, stage: Stage) -> None:
        await stage.a.store.flag([Flag(stage.run, "", 0, 3)])
        cursor, found = await stage.flagged(stage.b, None, 1)
        assert found == {Flag(stage.run, "", 0, 3)}
        later, again = await stage.b.store.flags(cursor)
        assert self._mine(stage, again) == set()

        await stage.a.store.flag([Flag(stage.run, "seg", 1, 2), Flag(stage.run, "", 0, 9)])

        last, found = await stage.flagged(stage.b, later, 2)
        assert found == {Flag(stage.run, "seg", 1, 2), Flag(stage.run, "", 0, 9)}
        assert self._mine(stage, (await stage.b.store.flags(last))[1]) == set()

    def _mine(self, stage: Stage, found: list[Flag]) -> set[Flag]:
        """Leave others' flags out."""
        return {flag for flag in found if flag.run == stage.run}

    @proves("S9")
    async def test_s9_a_new_client_sees_the_flags_of_before(self, stage: Stage) -> None:
        await stage.a.store.flag([Flag(stage.run, "", 0, 3)])

        late = await stage.connect()

        assert (await stage.flagged(late, None, 1))[1] == {Flag(stage.run, "", 0, 3)}

    @proves("S10")
    async def test_s10_names_lists_records_by_their_beginning(self, stage: Stage) -> None:
        await stage.a.store.put([Put(stage.key(name), b"1") for name in ("o.1", "o.10", "ox", "p.s.2", "k.x-y_z:0")])

        assert sorted(await stage.b.store.names(stage.run, "o.")) == ["o.1", "o.10"]
        assert len(await stage.b.store.names(stage.run, "")) == 5
        assert await stage.b.store.names(stage.run[:-1], "") == []

    @proves("S11")
    async def test_s11_runs_are_runs_from_the_newest(self, stage: Stage) -> None:
        runs = [stage.id(letter) for letter in "caebd"]
        for number, run in enumerate(runs):
            await stage.a.store.put([Put(stage.key("o.0", run), b"x")])
            await stage.a.store.put_once([Once(stage.key("r", run), str(number).encode())])
        await stage.a.store.put([Put(stage.key("rr", stage.id("none")), b"x")])

        found = [(run, value) for run, value in await self._runs(stage, 2) if run.startswith(stage.run)]

        assert found == [(run, str(number).encode()) for number, run in reversed(list(enumerate(runs)))]

    async def _runs(self, stage: Stage, size: int) -> list[tuple[str, bytes]]:
        """Page through all runs."""
        found: list[tuple[str, bytes]] = []
        while page := await stage.b.store.runs(found[-1][0] if found else None, size):
            assert len(page) <= size
            found += page
        return found

    @proves("S12")
    async def test_s12_values_are_opaque(self, stage: Stage) -> None:
        values = [b"", b"\x00", bytes(range(256)), b"\xff\xfe not utf-8", b"\xc1" * LARGE]
        await stage.a.store.put([Put(stage.key(f"v.{number}"), value) for number, value in enumerate(values)])
        await stage.a.store.put_once([Once(stage.key(f"o.{number}"), value) for number, value in enumerate(values)])

        for kind in "vo":
            assert await stage.b.store.get([stage.key(f"{kind}.{n}") for n in range(len(values))]) == values

    @proves("S13")
    async def test_s13_put_replaces_a_value(self, stage: Stage) -> None:
        for number in range(3):
            await (stage.a, stage.b)[number % 2].store.put([Put(stage.key("g.0"), str(number).encode())])

        assert await stage.read(stage.a, "g.0") == b"2"

    @proves("S13")
    async def test_s13_put_replaces_the_time_to_live(self, stage: Stage) -> None:
        await stage.a.store.put([Put(stage.key("longer"), b"1", SHORT), Put(stage.key("shorter"), b"1")])
        await stage.a.store.put([Put(stage.key("longer"), b"1"), Put(stage.key("shorter"), b"1", SHORT)])

        await stage.sleep(0.6)

        assert await stage.b.store.get([stage.key("longer"), stage.key("shorter")]) == [b"1", None]

    @proves("S14")
    async def test_s14_drop_forgets_a_record_and_nothing_but_it(self, stage: Stage) -> None:
        names = ("k.1", "k.10", "k")
        await stage.a.store.put([Put(stage.key(name), b"1") for name in names])

        await stage.b.store.drop([stage.key("unknown"), stage.key("k.1")])

        assert await stage.a.store.get([stage.key(name) for name in names]) == [None, b"1", b"1"]

    @proves("S15", repeats=False)
    async def test_s15_no_addition_is_lost(self, stage: Stage) -> None:
        sums: list[int] = []

        async def add(number: int) -> None:
            sums.append(await (stage.a, stage.b)[number % 2].store.add(stage.key("n"), 2))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(add, number)

        assert sorted(sums) == list(range(2, 42, 2))
        assert await stage.a.store.add(stage.key("n"), -40) == 0

    @proves("S15", repeats=False)
    async def test_s15_a_counter_ends_with_its_time_or_its_run(self, stage: Stage) -> None:
        await stage.a.store.add(stage.key("short"), 5, SHORT)
        await stage.a.store.add(stage.key("longer"), 5, SHORT)
        await stage.b.store.add(stage.key("longer"), 1, timedelta(seconds=60))
        await stage.a.store.add(stage.key("swept"), 5)
        for _ in range(9):
            if await stage.b.store.sweep(stage.id("x"), 10):
                break
        assert await stage.b.store.add(stage.key("swept"), 1) == 6
        await stage.sleep(0.6)
        assert await stage.b.store.add(stage.key("short"), 1) == 1
        assert await stage.a.store.add(stage.key("longer"), 1) == 7

        for _ in range(9):
            if await stage.b.store.sweep(stage.run, 10):
                break

        assert await stage.a.store.add(stage.key("swept"), 1) == 1
