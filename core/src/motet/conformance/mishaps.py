"""Clauses F10 to F16: what may happen to a workflow on its way, and what does not come of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from motet.canvas.terms import chain, group
from motet.conformance.contract import proves
from motet.conformance.faults import Copied
from motet.conformance.flows import FlowContract
from motet.conformance.stage import Stage
from motet.context import Context, injected
from motet.errors import TaskFailed
from motet.message import VERSION, DeadLetter, Message, Order, pack
from motet.options import CONTROL
from motet.outcome import Kind
from motet.ports import Filter
from motet.retry import FixedDelay

__all__ = ["MishapContract"]


class MishapContract(FlowContract):
    """Workflows to which something happens.

    F10. A message that arrives twice changes nothing: values, callbacks and retries are as if it had come once.
    F11. A scope that is out of time fails as a timeout, whatever still runs in it.
    F12. A delayed call does not start before its time.
    F13. What a lost worker held is run by another.
    F14. A call that has killed its workers `max_deliveries` times fails, is buried, and its group learns of it (C10).
    F15. A call that no worker knows fails, is buried, and its group learns of it.
    F16. Bytes that are no message are buried with the reason, and stop nobody.
    """

    @proves("F10", patient=True, repeats=False)
    async def test_f10_a_message_that_arrives_twice_changes_nothing(self, stage: Stage) -> None:
        app, told = stage.app(), set[str]()

        @app.task(queue=stage.queue, name="f10:number", retry_policy=FixedDelay(0.05, max_retries=3))
        async def number(n: int, ctx: Context = injected) -> int:
            if n == 3 and ctx.attempt == 1:
                raise ValueError
            return n

        @app.task(queue=stage.queue, name="f10:total")
        async def total(values: list[int]) -> int:
            return sum(values)

        @app.task(queue=stage.queue, name="f10:tell")
        async def tell(value: int, ctx: Context = injected) -> None:
            told.add(f"{value} {ctx.idempotency_key}")

        copies = Copied(stage.clock)
        other = stage.app(copies.between(stage.b))
        other.registry.definitions = app.registry.definitions
        term = (group(number.s(n) for n in range(6)) | total.s() | number.s()).on_success(tell.s())
        async with stage.worker(other):
            assert await self._value(await self._submit(stage, app, term)) == 15
            await self._until(stage, lambda: told)
            await stage.sleep(0.5)

        # A copy may run beside its original: task code runs at least once. What it leads to happens once.
        assert copies.calls > 8
        assert len(copies.fresh) == len(set(copies.fresh))
        assert len(told) == 1

    @proves("F11", patient=True, repeats=False)
    async def test_f11_a_scope_out_of_time_fails(self, stage: Stage) -> None:
        app, ran = stage.app(), Counter[str]()

        @app.task(queue=stage.queue, name="f11:slow")
        async def slow() -> None:
            ran["slow"] += 1
            await stage.sleep(20)

        @app.task(queue=stage.queue, name="f11:next")
        async def following() -> None:
            ran["next"] += 1

        async with self._running(stage, app):
            began = stage.now
            run = await self._submit(stage, app, chain(slow.si(), following.si()).within(0.5))
            with pytest.raises(TaskFailed) as caught:
                await self._value(run)
            assert stage.now - began < 10
            await stage.sleep(0.5)

        assert caught.value.error.kind == "timeout"
        assert ran == {"slow": 1}

    @proves("F12", patient=True, repeats=False)
    async def test_f12_a_delayed_call_does_not_start_before_its_time(self, stage: Stage) -> None:
        app, began = stage.app(), list[float]()

        @app.task(queue=stage.queue, name="f12:note")
        async def note() -> None:
            began.append(stage.now)

        async with self._running(stage, app):
            submitted = stage.now
            await self._value(await self._submit(stage, app, note.s(), delay=0.5))
            await self._value(await self._submit(stage, app, chain(note.si(), note.si().set(delay=0.5))))

        assert began[0] - submitted >= 0.49
        assert began[2] - began[1] >= 0.49

    @proves("F13", needs="lease", repeats=False)
    async def test_f13_what_a_lost_worker_held_is_run_by_another(self, stage: Stage) -> None:
        app, ran = stage.app(), Counter[int]()

        @app.task(queue=stage.queue, name="f13:number")
        async def number(n: int) -> int:
            ran[n] += 1
            return n

        run = await self._submit(stage, app, group(number.s(n) for n in range(4)))
        for _ in range(2):
            # Whoever takes these is never heard of again; one of them may be the message that starts the group.
            await stage.take(stage.a, (CONTROL, *stage.worked), limit=2)

        async with self._running(stage, app):
            assert await self._value(run) == [0, 1, 2, 3]

        assert ran == {0: 1, 1: 1, 2: 1, 3: 1}

    @proves("F14", needs="lease", repeats=False)
    async def test_f14_c10_a_call_that_kills_its_workers_fails_and_is_buried(self, stage: Stage) -> None:
        app = stage.app()

        @app.task(queue=stage.queue, name="f14:number")
        async def number(n: int) -> int:
            return n

        run = await self._submit(stage, app, group(number.s(1).set(max_deliveries=2)))
        async with stage.worker(stage.app(stage.b), queues=(stage.other,)):
            # It begins the group, and leaves the call to others.
            for _ in range(2):
                [taken] = await stage.take(stage.a, stage.worked)
                await stage.a.transport.strike(taken)
                await stage.outlive_lease()

        async with self._running(stage, app):
            with pytest.raises(TaskFailed) as caught:
                await self._value(run)

        assert [cause.kind for cause in caught.value.error.causes] == ["worker_lost"]
        letters = await stage.b.deadletters.page(Filter(queue=stage.queue), None, 9)
        assert [(letter.task, letter.error.kind) for letter in letters] == [("f14:number", "worker_lost")]

    @proves("F15", patient=True, repeats=False)
    async def test_f15_a_call_that_nobody_knows_fails_and_is_buried(self, stage: Stage) -> None:
        app, told = stage.app(), Counter[str]()

        @app.task(queue=stage.queue, name="f15:number")
        async def number(n: int) -> int:
            return n

        @app.task(queue=stage.queue, name="f15:gone")
        async def gone(n: int) -> int:
            return n

        @app.task(queue=stage.queue, name="f15:tell")
        async def tell(error: Any) -> None:
            told[error["causes"][0]["kind"]] += 1

        async with self._running(stage, app, without=("f15:gone",)):
            run = await self._submit(stage, app, group(number.s(1), gone.s(2)).on_failure(tell.s()))
            with pytest.raises(TaskFailed) as caught:
                await self._value(run)
            await self._until(stage, lambda: told)

        assert [cause.kind for cause in caught.value.error.causes] == ["unknown_task"]
        assert told == {"unknown_task": 1}
        letters = await stage.b.deadletters.page(Filter(queue=stage.queue), None, 9)
        assert [(letter.task, letter.error.kind) for letter in letters] == [("f15:gone", "unknown_task")]

    @proves("F16", patient=True, repeats=False)
    async def test_f16_bytes_that_are_no_message_are_buried(self, stage: Stage) -> None:
        app = stage.app()

        @app.task(queue=stage.queue, name="f16:number")
        async def number(n: int) -> int:
            return n

        good = pack(Message(VERSION, Order.RUN, stage.id("none")))
        raws = (
            b"\xc1",
            bytes(range(256)),
            b"\xa3\xff\xfe\xfd",
            b'{"json": true}',
            good[:-1],
            good.replace(bytes([VERSION]), bytes([VERSION + 100]), 1),
            b"\x91" * 100_000,
            b"\xdf\xff\xff\xff\xff",
            b"\xc4\xff" + b"x" * 10,
        )
        [lane] = stage.worked
        await stage.a.transport.publish(
            [stage.parcel(f".{number}:junk", lane, body=raw) for number, raw in enumerate(raws)]
        )
        async with self._running(stage, app):
            assert await self._value(await self._submit(stage, app, number.s(1))) == 1
            letters = await self._letters(stage, len(raws))

        assert sorted(letter.body for letter in letters) == sorted(raws)
        assert {letter.error.kind for letter in letters} == {Kind.MALFORMED}

    async def _letters(self, stage: Stage, count: int) -> list[DeadLetter]:
        """Wait until so many letters are buried."""
        found: list[DeadLetter] = []

        async def all_there() -> bool:
            found[:] = await stage.b.deadletters.page(Filter(queue=stage.queue), None, 100)
            return len(found) == count

        await self._until(stage, all_there)
        return found
