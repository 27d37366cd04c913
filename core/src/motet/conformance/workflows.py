"""Clauses F1 to F9: what a program of tasks means on this backend, with real workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from motet.canvas.terms import Group, Term, chain, group
from motet.conformance import algebra
from motet.conformance.algebra import Err, Meaning, Ok, denote
from motet.conformance.contract import proves
from motet.conformance.flows import FlowContract
from motet.conformance.stage import Stage
from motet.conformance.strategies import examples, terms
from motet.context import Context, injected
from motet.errors import TaskCancelled, TaskFailed, UnknownRun
from motet.outcome import ErrorInfo, Kind
from motet.retry import ExponentialBackoff

__all__ = ["WorkflowContract"]

TERMS = 40
WIDE = 600


class WorkflowContract(FlowContract):
    """Workflows on a real backend.

    F1. The value of a term depends on its shape only: laws L1 to L12 of docs/canvas.md.
    F2. A failed member ends its group as the group's policy says, and no member is waited for in vain.
    F3. `max_retries=n` is n runs after the first, the first of them after exactly the base delay; its key stays.
    F4. Callbacks run once for their scope, and hold nothing up.
    F5. A cancelled run ends as cancelled and continues nothing; a parked call of it never runs.
    F6. `replace` puts a term in a task's place, attached spawns are waited for, detached ones are runs of their own.
    F7. An id that is submitted twice is one run, while it lasts and after (H5).
    F8. A group wider than a page is a group like any other, its failures counted through its parts (H1, H2).
    F9. When `result_ttl` is over nothing of a run is left, and before that nothing is missing (H3).
    """

    # Values.

    @proves("F1", patient=True, repeats=False)
    async def test_f1_every_term_has_the_value_that_its_shape_says(self, stage: Stage) -> None:
        app = stage.app(result_ttl=60)
        app.registry.definitions = algebra.app.registry.definitions
        wide = group(algebra.leaf.s(f"n{n}") for n in range(12))
        empty: Group[Any, Any] = group(())
        more: list[Any] = [chain(wide, algebra.identity.s(), wide), empty, chain(empty, algebra.identity.s())]
        chosen = [*examples(terms(max_leaves=10), TERMS), *more]

        async with self._running(stage, app):
            runs = [await self._submit(stage, app, term) for term in chosen]
            meanings = [await self._meaning(run) for run in runs]

        assert meanings == [denote(term) for term in chosen]

    async def _meaning(self, run: Any) -> Meaning:
        """What a run came to, in the words of the algebra."""
        try:
            return Ok(await self._value(run))
        except TaskFailed as failed:
            return Err(tuple(error.message.removeprefix("boom ") for error in failed_leaves(failed.error)))

    # Failures.

    @proves("F2", patient=True, repeats=False)
    async def test_f2_a_failed_member_ends_its_group_as_the_policy_says(self, stage: Stage) -> None:
        app, ran = stage.app(), Counter[str]()

        @app.task(queue=stage.queue, name="f2:member")
        async def member(n: int) -> int:
            ran[f"member {n}"] += 1
            if n < 0:
                raise ValueError(f"no {n}")
            return n

        @app.task(queue=stage.queue, name="f2:body")
        async def body(values: list[Any]) -> int:
            ran["body"] += 1
            return len(values)

        async with self._running(stage, app):
            waits = await self._submit(stage, app, group(member.s(n) for n in (1, -2, 3, -4)) | body.s())
            with pytest.raises(TaskFailed) as caught:
                await self._value(waits)
            assert [cause.message for cause in caught.value.error.causes] == ["no -2", "no -4"]
            assert ran["body"] == 0

            fast = group(member.s(-5), member.s(6).set(delay=3600.0)).policy("fail_fast") | body.s()
            with pytest.raises(TaskFailed):
                await self._value(await self._submit(stage, app, fast))
            collects = group(member.s(n) for n in (7, -8)).policy("collect") | body.s()
            assert await self._value(await self._submit(stage, app, collects)) == 2
            enough = group(member.s(n) for n in (9, -10)).policy("wait", min_success=1) | body.s()
            assert await self._value(await self._submit(stage, app, enough)) == 2

        assert ran["body"] == 2
        assert ran["member 6"] == 0
        assert {name for name, count in ran.items() if count > 1} == {"body"}

    @proves("F3", patient=True, repeats=False)
    async def test_f3_retries_are_counted_and_the_key_stays(self, stage: Stage) -> None:
        app = stage.app()
        attempts: list[tuple[int, str, float]] = []

        @app.task(queue=stage.queue, name="f3:flaky", retry_policy=ExponentialBackoff(0.4, max_retries=2))
        async def flaky(ctx: Context = injected) -> None:
            attempts.append((ctx.attempt, ctx.idempotency_key, stage.now))
            raise ValueError("always")

        async with self._running(stage, app):
            run = await self._submit(stage, app, flaky.s())
            with pytest.raises(TaskFailed) as caught:
                await self._value(run)

        assert caught.value.error.attempts == 3
        assert [attempt for attempt, _, _ in attempts] == [1, 2, 3]
        assert len({key for _, key, _ in attempts}) == 1
        first, second, third = (at for _, _, at in attempts)
        assert 0.39 <= second - first < 3
        assert 0.79 <= third - second < 3

    @proves("F4", patient=True, repeats=False)
    async def test_f4_callbacks_run_once_for_their_scope(self, stage: Stage) -> None:
        app, told = stage.app(), Counter[str]()

        @app.task(queue=stage.queue, name="f4:number")
        async def number(n: int) -> int:
            if n < 0:
                raise ValueError
            return n

        @app.task(queue=stage.queue, name="f4:tell")
        async def tell(name: str) -> None:
            told[name] += 1

        def scoped(term: Term[Any, Any], name: str) -> Term[Any, Any]:
            return term.on_success(tell.si(f"{name} ok")).on_failure(tell.si(f"{name} err"))

        async with self._running(stage, app):
            inner = scoped(group(number.s(1), number.s(-2)), "inner")
            failing = await self._submit(stage, app, scoped(chain(inner, number.si(3)), "outer"))
            good = await self._submit(stage, app, scoped(group(number.s(n) for n in range(3)), "good"))
            with pytest.raises(TaskFailed):
                await self._value(failing)
            assert await self._value(good) == [0, 1, 2]
            await self._until(stage, lambda: len(told) == 3)
            await stage.sleep(0.5)

        assert told == {"inner err": 1, "outer err": 1, "good ok": 1}

    @proves("F5", patient=True, repeats=False)
    async def test_f5_a_cancelled_run_continues_nothing(self, stage: Stage) -> None:
        app, begun, ran = stage.app(), set[str](), Counter[str]()

        @app.task(queue=stage.queue, name="f5:slow")
        async def slow() -> None:
            begun.add("slow")
            await stage.sleep(20)

        @app.task(queue=stage.queue, name="f5:stubborn")
        async def stubborn() -> None:
            begun.add("stubborn")
            with anyio.CancelScope(shield=True):
                await stage.sleep(1)

        @app.task(queue=stage.queue, name="f5:note")
        async def note(name: str) -> None:
            ran[name] += 1

        async with self._running(stage, app):
            run = await self._submit(stage, app, chain(slow.si(), note.si("next")))
            goes_on = await self._submit(stage, app, chain(stubborn.si(), note.si("after all")))
            parked = await self._submit(stage, app, note.si("parked"), delay=1.5)
            await self._until(stage, lambda: len(begun) == 2)
            await run.cancel("enough")
            await goes_on.cancel()
            await parked.cancel()

            with pytest.raises(TaskCancelled, match="enough"):
                await self._value(run)
            await stage.sleep(2.5)
            for each in (goes_on, parked):
                with pytest.raises(TaskCancelled):
                    await self._value(each)

        assert not ran

    @proves("F6", patient=True, repeats=False)
    async def test_f6_a_task_may_be_replaced_and_may_spawn(self, stage: Stage) -> None:
        app, ran = stage.app(), Counter[str]()

        @app.task(queue=stage.queue, name="f6:note")
        async def note(name: str) -> str:
            ran[name] += 1
            return name

        @app.task(queue=stage.queue, name="f6:child")
        async def child(n: int) -> None:
            await stage.sleep(1.5 * n)
            ran[f"child {n}"] += 1

        @app.task(queue=stage.queue, name="f6:parent")
        async def parent(ctx: Context = injected) -> str:
            ctx.spawn(note.s("detached"))
            ctx.spawn(group(child.s(n) for n in range(2)), attach=True)
            return "parent"

        @app.task(queue=stage.queue, name="f6:countdown")
        async def countdown(n: int, ctx: Context = injected) -> str:
            again = chain(note.s(f"step {n}"), countdown.si(n - 1))
            answer: str = ctx.replace(again) if n else "done"
            return answer

        async with self._running(stage, app):
            run = await self._submit(stage, app, group(parent.s(), countdown.s(3)))
            assert await self._value(run) == ["parent", "done"]
            attached = {name for name in ran if name.startswith("child")}
            await self._until(stage, lambda: ran["detached"])

        assert attached == {"child 0", "child 1"}
        assert set(ran.values()) == {1}
        assert len(ran) == 6

    # Submitting.

    @proves("F7", patient=True, repeats=False)
    async def test_f7_h5_an_id_that_is_submitted_twice_is_one_run(self, stage: Stage) -> None:
        app, ran = stage.app(result_ttl=0.3), Counter[int]()

        @app.task(queue=stage.queue, name="f7:note")
        async def note(n: int) -> int:
            ran[n] += 1
            return n

        chosen = stage.name("chosen")
        async with self._running(stage, app):
            first = await self._submit(stage, app, note.s(1), id=chosen)
            second = await self._submit(stage, app, group(note.s(2), note.s(3)), id=chosen)
            assert first.id == second.id == chosen
            assert await self._value(first) == 1
            await self._until(stage, lambda: self._gone(stage, chosen))
            await self._submit(stage, app, note.s(4), id=chosen)
            await stage.sleep(0.5)

        assert ran == {1: 1}

    async def _gone(self, stage: Stage, run: str) -> bool:
        """Say whether nothing of a run is left."""
        left = await stage.a.store.names(run, "")
        return not left and await stage.a.transport.find([run]) == [None]

    @proves("F8", patient=True, repeats=False)
    async def test_f8_h1_h2_a_group_wider_than_a_page_is_a_group(self, stage: Stage) -> None:
        app = stage.app()

        @app.task(queue=stage.queue, name="f8:number")
        async def number(n: int) -> int:
            if n % 200 == 0:
                raise ValueError
            return n

        members = group(number.s(n) for n in range(WIDE))
        async with self._running(stage, app):
            full = await self._submit(stage, app, group(number.s(1) for _ in range(WIDE)))
            assert await self._value(full) == [1] * WIDE
            enough = await self._submit(stage, app, members.policy("wait", min_success=WIDE - 3))
            assert len(await self._value(enough)) == WIDE
            short = await self._submit(stage, app, members.policy("wait", min_success=WIDE - 2))
            with pytest.raises(TaskFailed):
                await self._value(short)

    @proves("F9", patient=True, repeats=False)
    async def test_f9_h3_nothing_of_a_run_is_left_and_nothing_is_missing_before(self, stage: Stage) -> None:
        app = stage.app(result_ttl=0.6)

        @app.task(queue=stage.queue, name="f9:text")
        async def text(n: int) -> str:
            return str(n) * 20_000

        @app.task(queue=stage.queue, name="f9:lengths")
        async def lengths(texts: list[str], ctx: Context = injected) -> Any:
            return ctx.replace(group(text.si(len(each) % 10) for each in texts[1:]))

        async with self._running(stage, app):
            run = await self._submit(stage, app, group(text.s(n) for n in range(3)) | lengths.s())
            assert [len(each) for each in await self._value(run)] == [20_000] * 2
            assert len(await stage.a.store.names(run.id, "")) > 8
            await stage.sleep(0.2)
            assert [len(each) for each in await self._value(run)] == [20_000] * 2

            await self._until(stage, lambda: self._gone(stage, run.id))
            with pytest.raises(UnknownRun):
                await app.handle(run.id).result(1)


def failed_leaves(error: ErrorInfo) -> Iterator[ErrorInfo]:
    """Yield what failed below a failure, in order."""
    if error.kind != Kind.GROUP:
        yield error
    for cause in error.causes:
        yield from failed_leaves(cause)
