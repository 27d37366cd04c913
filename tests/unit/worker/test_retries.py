"""Retries: how often, and exactly when. Time is virtual."""

from collections.abc import Callable
from typing import Any

import pytest

from motet import ExponentialBackoff, FixedDelay, LinearBackoff, Motet, TaskFailed
from motet.memory.clock import VirtualClock
from motet.retry import NoRetry, RemoteError, RetryPolicy, qualnames


@pytest.mark.parametrize(
    ("policy", "times"),
    [
        (NoRetry(), [0]),
        (FixedDelay(5, max_retries=0), [0]),
        (FixedDelay(5, max_retries=2), [0, 5, 10]),
        (LinearBackoff(5, max_retries=3), [0, 5, 15, 30]),
        (ExponentialBackoff(5, max_retries=3), [0, 5, 15, 35]),
        (ExponentialBackoff(5, max_retries=3, cap=8), [0, 5, 13, 21]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else str(len(value)),
)
async def test_r35_attempts_and_delays_are_exactly_those_of_the_policy(
    virtual: Motet, clock: VirtualClock, policy: RetryPolicy, times: list[int]
) -> None:
    seen: list[float] = []

    @virtual.task(retry_policy=policy)
    async def fails() -> None:
        seen.append(clock.monotonic())
        raise ValueError("again")

    async with virtual, virtual.worker():
        run = await fails.delay()
        await clock.advance(100)
        with pytest.raises(TaskFailed) as caught:
            await run.result(0)

    assert seen == times
    assert caught.value.error.attempts == len(times)


async def test_a_policy_that_is_broken_fails_the_run_and_not_the_worker(virtual: Motet, clock: VirtualClock) -> None:
    class Broken(RetryPolicy):
        def delay(self, error: BaseException, attempt: int, roll: float) -> Any:
            raise ZeroDivisionError

    @virtual.task(retry_policy=Broken())
    async def fails() -> None:
        raise ValueError("again")

    @virtual.task
    async def works() -> int:
        return 1

    async with virtual, virtual.worker():
        bad, good = await fails.delay(), await works.delay()
        await clock.advance(1)

        assert await good.result(0) == 1
        with pytest.raises(TaskFailed) as caught:
            await bad.result(0)
    assert (caught.value.error.kind, caught.value.error.type) == ("settle_error", "ZeroDivisionError")


async def test_a_redelivered_retry_is_still_one(
    virtual: Motet, clock: VirtualClock, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    @virtual.task(retry_policy=FixedDelay(5, max_retries=1))
    async def fails() -> None:
        calls.append(clock.monotonic())
        raise ValueError("again")

    async with virtual:
        await fails.delay()
        settle = virtual.backend.settler.settle

        async def twice(entries: Any) -> Any:
            held = [entry.delivery for entry in entries if entry.delivery is not None]
            answer = await settle([type(entry)(entry.program, None, entry.settlement) for entry in entries])
            await settle([type(entry)(entry.program, None, entry.settlement) for entry in entries])
            await virtual.backend.transport.ack(held)
            return answer

        monkeypatch.setattr(virtual.backend.settler, "settle", twice)
        async with virtual.worker():
            await clock.advance(30)

    assert calls == [0, 5]


def test_a_policy_chooses_by_the_names_of_an_error_of_another_process() -> None:
    remote = RemoteError("missing", qualnames(KeyError("missing")))

    assert FixedDelay(1, on=(LookupError,)).delay(remote, 1, 0) is not None
    assert FixedDelay(1, never=(LookupError,)).delay(remote, 1, 0) is None
    assert FixedDelay(1, on=(ValueError,)).delay(remote, 1, 0) is None
    assert str(remote) == "missing"


async def test_jitter_shortens_the_wait_by_the_roll_of_the_dice(clock: VirtualClock, until: Callable[..., Any]) -> None:
    class Half:
        def roll(self) -> float:
            return 0.5

    app = Motet("memory://", clock=clock, rng=Half())
    seen: list[float] = []

    @app.task(retry_policy=FixedDelay(10, max_retries=1, jitter=0.4))
    async def fails() -> None:
        seen.append(clock.monotonic())
        raise ValueError

    async with app, app.worker(lease_thread=False):
        await fails.delay()
        await clock.advance(20)

    assert seen == [0, 8]
