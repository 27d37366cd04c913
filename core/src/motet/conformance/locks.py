"""Clauses L1 to L10: leased, owned, fenced, all or nothing."""

from __future__ import annotations

from datetime import timedelta

import anyio

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import Stage
from motet.ports import Backend, Busy, Grant, Lock

__all__ = ["LocksContract"]

LONG = timedelta(seconds=60)


class LocksContract(Contract):
    """Port L."""

    async def _ask(
        self, stage: Stage, owner: str, *locks: Lock, backend: Backend | None = None, lease: timedelta = LONG
    ) -> int | None:
        """Ask for locks, and return the fence, or None when they are busy."""
        answer = await (backend or stage.a).locks.acquire(locks, stage.name(owner), lease)
        if isinstance(answer, Busy):
            assert answer.name in {lock.name for lock in locks}
            assert answer.after >= timedelta()
            return None
        assert isinstance(answer, Grant)
        return answer.fence

    def _mutex(self, stage: Stage, name: str = "m") -> Lock:
        return Lock(stage.name(name), "mutex")

    def _rate(self, stage: Stage, limit: int, seconds: float) -> Lock:
        return Lock(stage.name("rate"), "rate", limit, timedelta(seconds=seconds))

    @proves("L1", needs="locks")
    async def test_l1_all_of_the_locks_or_none(self, stage: Stage) -> None:
        one, two, three = (self._mutex(stage, name) for name in "xyz")
        assert await self._ask(stage, "holder", two)

        assert await self._ask(stage, "both", one, two, three, backend=stage.b) is None
        assert await self._ask(stage, "other", one, three) is not None

    @proves("L1", needs="locks")
    async def test_l1_a_rate_is_not_spent_while_another_lock_is_busy(self, stage: Stage) -> None:
        lock, rate = self._mutex(stage), self._rate(stage, 1, 60)
        await self._ask(stage, "holder", lock)

        assert await self._ask(stage, "both", rate, lock) is None
        assert await self._ask(stage, "both too", lock, rate) is None
        assert await self._ask(stage, "alone", rate, backend=stage.b) is not None

    @proves("L2", needs="locks")
    async def test_l2_a_fence_grows_with_every_grant(self, stage: Stage) -> None:
        locks = [self._mutex(stage, name) for name in "xy"]
        fences: list[int] = []
        for number in range(6):
            chosen = locks if number % 3 == 0 else [locks[number % 2]]
            fence = await self._ask(stage, f"owner{number}", *chosen, backend=(stage.a, stage.b)[number % 2])
            assert fence is not None
            fences.append(fence)
            await stage.a.locks.release(stage.name(f"owner{number}"))

        # Those that share a lock, in order: all take "x" or "y", the first and fourth take both.
        shared = [[fences[n] for n in (0, 2, 3, 4)], [fences[n] for n in (0, 1, 3, 5)]]
        assert all(row == sorted(set(row)) for row in shared)

    @proves("L2", needs="locks")
    async def test_l2_a_fence_grows_over_a_lease_that_ran_out(self, stage: Stage) -> None:
        first = await self._ask(stage, "first", self._mutex(stage), lease=timedelta(seconds=0.3))
        await stage.sleep(0.6)

        second = await self._ask(stage, "second", self._mutex(stage))

        assert first is not None
        assert second is not None
        assert second > first

    @proves("L2", needs="locks")
    async def test_l2_renewing_keeps_the_fence(self, stage: Stage) -> None:
        fence = await self._ask(stage, "owner", self._mutex(stage))

        assert await stage.a.locks.renew(stage.name("owner"), LONG)

        assert [each.fence for each in await stage.b.locks.held(stage.name("m"))] == [fence]

    @proves("L3", needs="locks")
    async def test_l3_what_is_not_renewed_is_free_after_its_lease(self, stage: Stage) -> None:
        short = timedelta(seconds=0.4)
        kinds = [self._mutex(stage, "m"), Lock(stage.name("s"), "semaphore", 1), Lock(stage.name("rw"), "write")]
        reader = Lock(stage.name("read"), "read")
        await self._ask(stage, "dead", *kinds, reader, lease=short)
        assert await self._ask(stage, "heir", *kinds) is None

        await stage.sleep(0.7)

        assert await self._ask(stage, "heir", *kinds, Lock(reader.name, "write"), backend=stage.b) is not None

    @proves("L3", needs="locks")
    async def test_l3_what_is_renewed_is_held(self, stage: Stage) -> None:
        short = timedelta(seconds=0.6)
        await self._ask(stage, "owner", self._mutex(stage), lease=short)

        for _ in range(4):
            await stage.sleep(0.3)
            assert await stage.a.locks.renew(stage.name("owner"), short)

        assert await self._ask(stage, "other", self._mutex(stage), backend=stage.b) is None

    @proves("L4", needs="locks")
    async def test_l4_only_its_owner_can_let_go(self, stage: Stage) -> None:
        await self._ask(stage, "owner", self._mutex(stage))

        await stage.b.locks.release(stage.name("stranger"))
        assert not await stage.b.locks.renew(stage.name("stranger"), LONG)

        assert await self._ask(stage, "other", self._mutex(stage)) is None
        await stage.b.locks.release(stage.name("owner"))
        assert await self._ask(stage, "other", self._mutex(stage)) is not None

    @proves("L4", needs="locks")
    async def test_l4_a_late_owner_neither_renews_nor_releases_the_heirs_lock(self, stage: Stage) -> None:
        await self._ask(stage, "late", self._mutex(stage), lease=timedelta(seconds=0.3))
        await stage.sleep(0.6)
        await self._ask(stage, "heir", self._mutex(stage))

        assert not await stage.a.locks.renew(stage.name("late"), LONG)
        await stage.a.locks.release(stage.name("late"))

        assert await self._ask(stage, "other", self._mutex(stage)) is None
        assert await stage.b.locks.renew(stage.name("heir"), LONG)

    @proves("L4", needs="locks")
    async def test_l4_renewing_is_refused_when_any_lock_was_lost(self, stage: Stage) -> None:
        await self._ask(stage, "owner", self._mutex(stage, "x"), self._mutex(stage, "y"))
        assert await stage.a.locks.renew(stage.name("owner"), LONG)

        await stage.b.locks.free(stage.name("y"))

        assert not await stage.a.locks.renew(stage.name("owner"), LONG)

    @proves("L5", needs="locks")
    async def test_l5_a_rate_holds_in_every_window(self, stage: Stage) -> None:
        limit, window = 3, 0.6
        granted: list[float] = []
        for number in range(14):
            before = stage.now
            if await self._ask(stage, f"use{number}", self._rate(stage, limit, window)) is not None:
                granted.append(before)
            await stage.a.locks.release(stage.name(f"use{number}"))
            await stage.sleep(0.1)

        # `before` is when the use was asked for, at most a round trip early: that slack must not hide a fourth use.
        close = [later - first for first, later in zip(granted, granted[limit:], strict=False)]
        assert len(granted) >= 2 * limit
        assert all(apart >= window - 0.09 for apart in close)

    @proves("L5", needs="locks")
    async def test_l5_a_window_begins_with_every_use(self, stage: Stage) -> None:
        limit, window = 3, 0.8
        granted: list[tuple[float, float]] = []

        # Most of the first uses are late in a window that began with the first one of all.
        for number, pause in enumerate((0.55, 0.01, 0.3, 0.01, 0.01, 0.6, 0.01)):
            asked = stage.now
            if await self._ask(stage, f"use{number}", self._rate(stage, limit, window)) is not None:
                granted.append((asked, stage.now))
            await stage.sleep(pause)

        # A use was granted between the two times; what is measured is never less than what lay between two of them.
        apart = [later[1] - first[0] for first, later in zip(granted, granted[limit:], strict=False)]
        assert len(granted) > limit
        assert all(each >= window for each in apart)

    @proves("L5", needs="locks")
    async def test_l5_a_busy_rate_says_when_to_come_again(self, stage: Stage) -> None:
        rate = self._rate(stage, 1, 0.5)
        assert await self._ask(stage, "first", rate) is not None

        answer = await stage.a.locks.acquire([rate], stage.name("second"), LONG)

        assert isinstance(answer, Busy)
        assert timedelta(seconds=0.1) < answer.after <= timedelta(seconds=0.5)
        await stage.sleep(answer.after.total_seconds() + 0.05)
        assert await self._ask(stage, "second", rate) is not None

    @proves("L6", needs="locks")
    async def test_l6_a_mutex_has_one_holder(self, stage: Stage) -> None:
        granted: list[str] = []

        async def compete(number: int) -> None:
            owner = f"owner{number}"
            if await self._ask(stage, owner, self._mutex(stage), backend=(stage.a, stage.b)[number % 2]) is not None:
                granted.append(owner)

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(compete, number)

        assert len(granted) == 1

    @proves("L6", needs="locks")
    async def test_l6_readers_share_and_a_writer_does_not(self, stage: Stage) -> None:
        read, write = (Lock(stage.name("rw"), "read"), Lock(stage.name("rw"), "write"))
        assert await self._ask(stage, "r1", read) is not None
        assert await self._ask(stage, "r2", read, backend=stage.b) is not None
        assert await self._ask(stage, "w1", write) is None

        await stage.a.locks.release(stage.name("r1"))
        assert await self._ask(stage, "w1", write) is None
        await stage.a.locks.release(stage.name("r2"))

        assert await self._ask(stage, "w1", write) is not None
        assert await self._ask(stage, "r3", read) is None
        assert await self._ask(stage, "w2", write, backend=stage.b) is None

    @proves("L7", needs="locks")
    async def test_l7_a_semaphore_has_at_most_its_limit_of_holders(self, stage: Stage) -> None:
        place = Lock(stage.name("s"), "semaphore", 3)
        granted: list[str] = []

        async def compete(number: int) -> None:
            if await self._ask(stage, f"o{number}", place, backend=(stage.a, stage.b)[number % 2]) is not None:
                granted.append(f"o{number}")

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(compete, number)

        assert len(granted) == 3
        await stage.b.locks.release(stage.name(granted[0]))
        assert await self._ask(stage, "next", place) is not None
        assert await self._ask(stage, "none", place) is None

    @proves("L8", needs="locks")
    async def test_l8_acquiring_again_renews_and_keeps_the_fence(self, stage: Stage) -> None:
        short = timedelta(seconds=0.6)
        locks = [self._mutex(stage), Lock(stage.name("s"), "semaphore", 1), Lock(stage.name("rw"), "write")]
        first = await self._ask(stage, "owner", *locks, lease=short)
        for _ in range(3):
            await stage.sleep(0.3)
            assert await self._ask(stage, "owner", *locks, lease=short) == first

        assert await self._ask(stage, "other", *locks, backend=stage.b) is None

    @proves("L8", needs="locks")
    async def test_l8_a_rate_is_not_spent_a_second_time(self, stage: Stage) -> None:
        rate = self._rate(stage, 2, 60)
        for _ in range(3):
            assert await self._ask(stage, "first", rate) is not None

        assert await self._ask(stage, "second", rate) is not None
        assert await self._ask(stage, "third", rate, backend=stage.b) is None

    @proves("L9", needs="locks")
    async def test_l9_held_lists_the_holders(self, stage: Stage) -> None:
        await self._ask(stage, "one", self._mutex(stage, "list.m"), Lock(stage.name("list.s"), "semaphore", 5))
        await self._ask(stage, "two", Lock(stage.name("list.s"), "semaphore", 5), self._rate(stage, 5, 60))
        await self._ask(stage, "dead", self._mutex(stage, "list.d"), lease=timedelta(seconds=0.2))
        await self._ask(stage, "else", self._mutex(stage, "other"))
        await stage.sleep(0.5)

        found = await stage.b.locks.held(stage.name("list."))

        assert sorted((each.name, each.owner) for each in found) == [
            (stage.name("list.m"), stage.name("one")),
            (stage.name("list.s"), stage.name("one")),
            (stage.name("list.s"), stage.name("two")),
        ]
        assert all(timedelta(seconds=50) < each.left <= LONG and each.fence > 0 for each in found)
        assert await stage.b.locks.held(stage.name("rate")) == []

    @proves("L10", needs="locks")
    async def test_l10_free_takes_a_lock_away(self, stage: Stage) -> None:
        await self._ask(stage, "owner", self._mutex(stage))

        assert await stage.b.locks.free(stage.name("m"))
        assert not await stage.b.locks.free(stage.name("m"))

        assert not await stage.a.locks.renew(stage.name("owner"), LONG)
        assert await self._ask(stage, "other", self._mutex(stage)) is not None
