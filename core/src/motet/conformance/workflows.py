"""Clauses F1 to F15: what a program of tasks means on this backend, with real workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from motet.app import Motet
from motet.canvas.terms import Term, chain, group
from motet.conformance import algebra
from motet.conformance.algebra import Err, Meaning, Ok, denote
from motet.conformance.contract import Contract, proves
from motet.conformance.faults import Copied
from motet.conformance.stage import Stage
from motet.conformance.strategies import examples, terms
from motet.context import Context, injected
from motet.errors import TaskCancelled, TaskFailed, UnknownRun
from motet.message import VERSION, DeadLetter, Message, Order, pack
from motet.options import CONTROL
from motet.outcome import ErrorInfo, Kind
from motet.ports import Filter
from motet.retry import ExponentialBackoff, FixedDelay
from motet.worker.loop import Worker

__all__ = ["WorkflowContract"]

TERMS = 40
WIDE = 600
PATIENCE = 30.0


class WorkflowContract(Contract):
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
    F10. A message that arrives twice changes nothing: values, callbacks and retries are as if it had come once.
    F11. A scope that is out of time fails as a timeout, whatever still runs in it.
    F12. A delayed call does not start before its time.
    F13. What a lost worker held is run by another.
    F14. A call that has killed its workers `max_deliveries` times fails, is buried, and its group learns of it (C10).
    F15. A call that no worker knows fails, is buried, and its group learns of it.
    F16. Bytes that are no message are buried with the reason, and stop nobody.
    """

    @asynccontextmanager
    async def _running(self, stage: Stage, app: Motet, *, without: Sequence[str] = ()) -> AsyncGenerator[Worker]:
        """Run a worker on the other client, so that what a submitter knows is not at hand."""
        other = stage.app(stage.b, result_ttl=app.result_ttl)
        known = app.registry.definitions
        other.registry.definitions = {name: known[name] for name in known if name not in without}
        async with stage.worker(other) as worker:
            yield worker

    async def _submit(self, stage: Stage, app: Motet, term: Term[Any, Any], **options: Any) -> Any:
        """Submit a term to this stage's queue."""
        chosen: Any = options
        run, _ = await app.submitter.submit(term.set(queue=stage.queue), chosen)
        return app.handle_of(run, term)

    async def _value(self, run: Any) -> Any:
        """Wait for a value."""
        return await run.result(timeout=PATIENCE)

    async def _until(self, stage: Stage, claim: Callable[[], Awaitable[object] | object]) -> None:
        """Wait until a claim holds."""
        give_up = stage.now + PATIENCE
        while True:
            holds = claim()
            if (await holds) if isinstance(holds, Awaitable) else holds:
                return
            assert stage.now < give_up, "it did not come true in time"
            await stage.sleep(0.05)

    # Values.

    @proves("F1", patient=True, repeats=False)
    async def test_f1_every_term_has_the_value_that_its_shape_says(self, stage: Stage) -> None:
        app = stage.app(result_ttl=60)
        app.registry.definitions = algebra.app.registry.definitions
        chosen = examples(terms(max_leaves=10), TERMS)

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
        app, begun, ran = stage.app(), anyio.Event(), Counter[str]()

        @app.task(queue=stage.queue, name="f5:slow")
        async def slow() -> None:
            begun.set()
            await stage.sleep(20)

        @app.task(queue=stage.queue, name="f5:note")
        async def note(name: str) -> None:
            ran[name] += 1

        async with self._running(stage, app):
            run = await self._submit(stage, app, chain(slow.si(), note.si("next")))
            parked = await self._submit(stage, app, note.si("parked"), delay=1.5)
            await begun.wait()
            await run.cancel("enough")
            await parked.cancel()

            with pytest.raises(TaskCancelled, match="enough"):
                await self._value(run)
            await stage.sleep(2.5)
            with pytest.raises(TaskCancelled):
                await self._value(parked)

        assert not ran

    @proves("F6", patient=True, repeats=False)
    async def test_f6_a_task_may_be_replaced_and_may_spawn(self, stage: Stage) -> None:
        app, ran = stage.app(), Counter[str]()

        @app.task(queue=stage.queue, name="f6:note")
        async def note(name: str) -> str:
            ran[name] += 1
            return name

        @app.task(queue=stage.queue, name="f6:parent")
        async def parent(ctx: Context = injected) -> str:
            ctx.spawn(note.s("detached"))
            ctx.spawn(group(note.s(f"child {n}") for n in range(2)), attach=True)
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

            await self._until(stage, lambda: self._gone(stage, run.id))
            with pytest.raises(UnknownRun):
                await app.handle(run.id).result(1)

    # What goes wrong on the way.

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

        copies = Copied(0)
        other = stage.app(copies.between(stage.b))
        other.registry.definitions = app.registry.definitions
        term = (group(number.s(n) for n in range(6)) | total.s() | number.s()).on_success(tell.s())
        async with stage.worker(other):
            assert await self._value(await self._submit(stage, app, term)) == 15
            await self._until(stage, lambda: told)
            await stage.sleep(0.5)

        # A copy may run beside its original: task code runs at least once. What it leads to happens once.
        assert copies.calls > 8
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
            run = await self._submit(stage, app, chain(slow.si(), following.si()).within(0.5))
            with pytest.raises(TaskFailed) as caught:
                await self._value(run)
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

        run = await self._submit(stage, app, number.s(1).set(max_deliveries=2))
        for _ in range(2):
            [taken] = await stage.take(stage.a, stage.worked)
            await stage.a.transport.strike(taken)
            await stage.outlive_lease()

        async with self._running(stage, app):
            with pytest.raises(TaskFailed) as caught:
                await self._value(run)

        assert caught.value.error.kind == "worker_lost"
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
            b"",
            b"\xc1",
            bytes(range(256)),
            b"\xff\xfe not utf-8",
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


def failed_leaves(error: ErrorInfo) -> Iterator[ErrorInfo]:
    """Yield what failed below a failure, in order."""
    if error.kind != Kind.GROUP:
        yield error
    for cause in error.causes:
        yield from failed_leaves(cause)
