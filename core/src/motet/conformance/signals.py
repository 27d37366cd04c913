"""Clauses N1 to N3: waiters are woken, and losing a signal costs time only."""

from __future__ import annotations

from datetime import timedelta

import anyio

from motet.conformance.contract import Contract, proves
from motet.conformance.stage import SOON, Stage
from motet.program import Once

__all__ = ["SignalsContract"]


class SignalsContract(Contract):
    """Port N."""

    @proves("N1")
    async def test_n1_a_decision_wakes_the_waiter(self, stage: Stage) -> None:
        for number, writer in enumerate((stage.a, stage.b)):
            run = stage.id(str(number))
            began = stage.now
            async with stage.b.signals.subscribe(run) as wakeups, anyio.create_task_group() as group:
                group.start_soon(wakeups.wait, SOON)
                await stage.sleep(0.05)
                await stage.settle(writer, Once(stage.key("o.0", run), b"1", ends=True))

            assert stage.now - began < SOON.total_seconds() / 2

    @proves("N1")
    async def test_n1_a_decision_between_two_waits_is_not_missed(self, stage: Stage) -> None:
        async with stage.b.signals.subscribe(stage.run) as wakeups:
            await wakeups.wait(timedelta(seconds=0.05))
            await stage.settle(stage.a, Once(stage.key("o.0"), b"1", ends=True))
            await stage.sleep(0.1)
            began = stage.now
            await wakeups.wait(SOON)

        assert stage.now - began < SOON.total_seconds() / 2

    @proves("N1")
    async def test_n1_every_waiter_is_woken(self, stage: Stage) -> None:
        began = stage.now

        async def wait(number: int) -> None:
            async with (stage.a, stage.b)[number % 2].signals.subscribe(stage.run) as wakeups:
                await wakeups.wait(SOON)

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(wait, number)
            await stage.sleep(0.1)
            await stage.settle(stage.a, Once(stage.key("o.0"), b"1", ends=True))

        assert stage.now - began < SOON.total_seconds() / 2

    @proves("N2")
    async def test_n2_a_waiter_without_signals_returns_after_its_limit(self, stage: Stage) -> None:
        began = stage.now
        async with stage.a.signals.subscribe(stage.run) as wakeups:
            await wakeups.wait(timedelta(seconds=0.1))
            await wakeups.wait(timedelta(seconds=0.1))

        assert stage.now - began < 2

    @proves("N3", repeats=False)
    async def test_n3_a_waiter_that_is_cancelled_leaves_the_others(self, stage: Stage) -> None:
        async def wait() -> None:
            async with stage.b.signals.subscribe(stage.run) as wakeups:
                await wakeups.wait(SOON)

        for pause in (0.0, 0.001, 0.02):
            async with stage.b.signals.subscribe(stage.run) as wakeups:
                async with anyio.create_task_group() as group:
                    group.start_soon(wait)
                    group.start_soon(wait)
                    await stage.sleep(pause)
                    group.cancel_scope.cancel()
                began = stage.now
                await stage.settle(stage.a, Once(stage.key(f"o.{pause}"), b"1", ends=True))
                await wakeups.wait(SOON)

            assert stage.now - began < SOON.total_seconds() / 2
