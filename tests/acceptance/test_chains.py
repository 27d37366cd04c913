"""Requirements R13 to R19: callbacks and chains."""

import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from motet import ErrorInfo, ExponentialBackoff, Fail, FixedDelay, Motet, TaskFailed, chain
from motet.message import read_message


async def settled(app: Motet) -> None:
    """Wait until nothing is queued or held any more."""
    with anyio.fail_after(10):
        while any(info.ready or info.held for info in await app.backend.transport.queues()):
            await anyio.sleep(0.01)


async def test_r13_each_callback_fires_once_and_never_after_a_retry(app: Motet, calls: list[Any]) -> None:
    @app.task(retry_policy=FixedDelay(0.01, max_retries=2))
    async def flaky(succeed: bool) -> str:
        calls.append("run")
        if not succeed or calls.count("run") < 3:
            raise ValueError("not yet")
        return "done"

    @app.task
    async def succeeded(value: str) -> None:
        calls.append(f"ok {value}")

    @app.task
    async def failed(error: ErrorInfo) -> None:
        calls.append(f"failed after {error.attempts}")

    async with app, app.worker():
        await (await flaky.s(succeed=True).on_success(succeeded.s()).on_failure(failed.s()).submit()).result(5)
        await settled(app)
        assert calls == ["run"] * 3 + ["ok done"]
        calls.clear()
        with pytest.raises(TaskFailed):
            await (await flaky.s(succeed=False).on_success(succeeded.s()).on_failure(failed.s()).submit()).result(5)
        await settled(app)

    assert calls == ["run"] * 3 + ["failed after 3"]


async def test_r14_a_failure_callback_learns_which_link_failed_and_why(app: Motet, calls: list[ErrorInfo]) -> None:
    @app.task(name="here:add")
    async def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="here:register", retry_policy=FixedDelay(0.01, max_retries=1))
    async def register(total: int, email: str) -> None:
        raise ValueError("duplicate e-mail")

    @app.task
    async def failed(error: ErrorInfo) -> None:
        calls.append(error)

    async with app, app.worker():
        run = await chain(add.s(1, 1), add.s(1), register.s("a@example.org"), on_failure=failed.s()).submit()
        with pytest.raises(TaskFailed):
            await run.result(5)
        await settled(app)

    (error,) = calls
    assert (error.task, error.type, error.message) == ("here:register", "ValueError", "duplicate e-mail")
    assert (error.run, error.path, error.attempts) == (run.id, (2,), 2)
    assert error.arguments == {"total": 3, "email": "a@example.org"}


async def test_r15_the_value_of_a_sequence_is_the_whole_sequence(app: Motet, calls: list[str]) -> None:
    @app.task
    async def note(name: str) -> str:
        calls.append(name)
        return name

    async with app, app.worker():
        run = await (note.s("a") >> note.si("b") >> note.si("c")).submit()
        assert await run.result(5) == "c"

    assert calls == ["a", "b", "c"]


async def test_r16_a_chain_keeps_the_handlers_of_its_links_and_adds_its_own(app: Motet, calls: list[str]) -> None:
    @app.task
    async def fail() -> None:
        raise ValueError

    @app.task
    async def note(error: ErrorInfo, name: str) -> None:
        calls.append(name)

    link = fail.si().on_failure(note.s("link"))
    before = link.to_mapping()
    composed = chain(chain(link, link), link, on_failure=note.s("chain"))
    assert len(composed.children) == 3
    async with app, app.worker():
        run = await composed.submit()
        with pytest.raises(TaskFailed):
            await run.result(5)
        await settled(app)

    assert sorted(calls) == ["chain", "link"]
    assert link.to_mapping() == before


async def test_r17_what_comes_after_a_failed_link_is_skipped(app: Motet, calls: list[str]) -> None:
    @app.task
    async def note(name: str) -> None:
        calls.append(name)

    @app.task
    async def fail() -> None:
        raise Fail("enough")

    async with app, app.worker():
        run = await (note.si("a") | fail.si() | note.si("b") | note.si("c")).submit()
        with pytest.raises(TaskFailed, match="enough"):
            await run.result(5)
        states = [(await child.status()).state for child in await run.children()]

    assert calls == ["a"]
    assert states == ["success", "failure", "skipped", "skipped"]


@pytest.mark.timeout(120)
async def test_r18_a_chain_of_5000_links_runs_with_messages_of_constant_size(app: Motet) -> None:
    @app.task
    async def increment(x: int) -> int:
        return x + 1

    sizes: list[int] = []
    async with app:
        receive = app.backend.transport.receive

        async def measured(*args: Any) -> Any:
            taken = await receive(*args)
            sizes.extend(len(delivery.body) for delivery in taken if read_message(delivery.body).order == "r")
            return taken

        transport: Any = app.backend.transport
        transport.receive = measured
        async with app.worker():
            run = await chain(*[increment.s(0), *[increment.s()] * 4999]).submit()
            assert await run.result(100) == 5000

    assert len(sizes) == 5000
    assert max(sizes) - min(sizes) < 12
    assert max(sizes) < 100


async def test_r35_delays_are_exactly_base_times_factor(app: Motet) -> None:
    policy = ExponentialBackoff(5, max_retries=3)

    waits = [policy.delay(ValueError(), attempt, 0.5) for attempt in (1, 2, 3, 4)]

    assert [wait and wait.total_seconds() for wait in waits] == [5, 10, 20, None]
    capped = ExponentialBackoff(1, max_retries=99, cap=60).delay(ValueError(), 99, 0)
    assert capped is not None and math.isclose(capped.total_seconds(), 60)


class Crashed(BaseException):
    """The process died here; no `except Exception` saves it."""


CALLS = {
    "transport": ("publish", "ack", "receive"),
    "store": ("put_once", "put", "get", "open", "arrive"),
    "timers": ("park",),
    "settler": ("settle",),
}


def crash_after(app: Motet, count: int) -> Callable[[], bool]:
    """Let the n-th call to a port be carried out, and then die before its answer is used; the dead call nothing."""
    made = 0

    def counted(port: Any, name: str) -> None:
        real = getattr(port, name)

        async def call(*args: Any) -> Any:
            nonlocal made
            if made >= count:
                raise Crashed
            answer = await real(*args)
            made += 1
            if made == count:
                raise Crashed
            return answer

        setattr(port, name, call)

    for port, names in CALLS.items():
        for name in names:
            if hasattr(getattr(app.backend, port), name):
                counted(getattr(app.backend, port), name)
    return lambda: made >= count


@pytest.mark.timeout(120)
async def test_r19_a_crash_at_any_point_loses_nothing_and_doubles_no_effect(
    make: Callable[..., Motet], url: str, tmp_path: Any
) -> None:
    shared = url.replace("memory://", "memory://crash")
    count = 0
    for count in range(1, 60, 3 if "sqlite" in url else 1):
        again = await one_crash(make(), shared.replace("motet.db", f"{count}.db"), count)
        if not again:
            return
    assert count > 30


async def one_crash(app: Motet, url: str, count: int) -> bool:
    """Run a chord with one crash; say whether the crash was reached."""
    effects: set[str] = set()

    def prepared() -> Motet:
        app = Motet(url, lease=0.1)

        @app.task(name="here:double")
        async def double(x: int) -> int:
            return 2 * x

        @app.task(name="here:note")
        async def note(xs: list[int]) -> int:
            effects.add(str(xs))
            return sum(xs)

        return app

    client, first, second = prepared(), prepared(), prepared()
    term = client.registry.definitions
    from motet import group, signature

    double, note = (signature({"task": name}) for name in term)
    async with client:
        run = await (group(double.bind((number,), {}) for number in range(3)) | note).submit()
        async with first:
            reached = crash_after(first, count)
            try:
                with anyio.move_on_after(0.25):
                    await first.make_worker(concurrency=2).serve()
            except BaseException as crash:  # noqa: BLE001 - the crash itself
                assert isinstance(crash, Crashed) or (  # noqa: PT017 - or a group that holds what serve was killed by
                    isinstance(crash, BaseExceptionGroup) and crash.subgroup(Crashed) is not None
                )
        async with second, second.worker():
            assert await run.result(10) == 6
    assert effects == {"[0, 2, 4]"}
    return reached()
