"""Every point at which fixed workflows can break off: each alone, and a sample of pairs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from calls import boom, flaky, leaf, spawn, swap
from faults import Fault, Weather
from schedule import Report, simulate

from motet import Term, chain, chord, group
from motet.retry import FixedDelay

__all__ = ["WORKFLOWS", "pairs", "singles"]

SEED = 20_260_101
Workflow = Callable[[], Term[Any, Any]]
KINDS = (Fault.CRASH_AFTER, Fault.LOST_REPLY)


def plain(number: int) -> Any:
    return leaf.partial(f"n{number}")


def group_with_an_empty_one() -> Term[Any, Any]:
    return group(group(plain(1), group()), plain(2)) | plain(3)


def group_of_chain_of_group() -> Term[Any, Any]:
    return group(plain(1) | group(plain(2), plain(3)), plain(4))


def failing_chain_in_a_group() -> Term[Any, Any]:
    return group(plain(1) | boom.partial("n2") | plain(3), plain(4)).on_failure(plain(5))


def replacement_in_a_chain() -> Term[Any, Any]:
    return plain(1) | swap.partial("n2") | plain(3)


def wide_group() -> Term[Any, Any]:
    return group(plain(number) for number in range(11)) | plain(11)


def chord_of_chords() -> Term[Any, Any]:
    return chord([chord([plain(1), plain(2)], plain(3)), chord([plain(4)], plain(5))], plain(6))


def recovered_failure() -> Term[Any, Any]:
    return (plain(1) | boom.partial("n2")).recover(plain(3)) | plain(4)


def callbacks_at_every_level() -> Term[Any, Any]:
    inner: Any = (plain(1) | plain(2)).on_success(plain(3))
    return group(inner, plain(4)).on_success(plain(5) | plain(6)) | plain(7)


def fast_failure() -> Term[Any, Any]:
    return group(boom.partial("n1"), plain(2) | plain(3), plain(4)).policy("fail_fast").recover(plain(5))


def enough_successes() -> Term[Any, Any]:
    return group(boom.partial("n1"), plain(2), boom.partial("n3")).policy("wait", min_success=1) | plain(4)


def retries() -> Term[Any, Any]:
    policy = FixedDelay(0.1, max_retries=2)
    return flaky.partial("n1").set(retry_policy=policy).recover(plain(2)) | plain(3)


def spawns() -> Term[Any, Any]:
    return chain(plain(1), spawn.partial("n2"), plain(3))


WORKFLOWS: tuple[Workflow, ...] = (
    group_with_an_empty_one,
    group_of_chain_of_group,
    failing_chain_in_a_group,
    replacement_in_a_chain,
    wide_group,
    chord_of_chords,
    recovered_failure,
    callbacks_at_every_level,
    fast_failure,
    enough_successes,
    retries,
    spawns,
)


def run(workflow: Workflow, mode: str, forced: dict[int, Fault]) -> Report:
    """Perform a workflow in calm weather, but for the faults at these calls."""
    weather = Weather(random.Random(SEED), forced=forced or {0: Fault.DELAY}, quick=1.0)
    return simulate(SEED, mode, weather=weather, plot=workflow())


def singles(mode: str, workflows: Sequence[Workflow] = WORKFLOWS) -> Iterator[tuple[str, Report]]:
    """Break each workflow off at each call, in each way."""
    for workflow in workflows:
        calls = run(workflow, mode, {}).calls
        for place in range(1, calls + 1):
            for fault in KINDS:
                yield f"{workflow.__name__} {place} {fault}", run(workflow, mode, {place: fault})


def pairs(mode: str, count: int, rng: random.Random) -> Iterator[tuple[str, Report]]:
    """Break workflows off twice, at places chosen by chance."""
    lengths = [run(workflow, mode, {}).calls for workflow in WORKFLOWS]
    for _ in range(count):
        which = rng.randrange(len(WORKFLOWS))
        first = rng.randrange(1, lengths[which] + 1)
        second = rng.randrange(first + 1, lengths[which] * 2 + 2)
        forced = {first: rng.choice(KINDS), second: rng.choice(KINDS)}
        yield f"{WORKFLOWS[which].__name__} {forced}", run(WORKFLOWS[which], mode, forced)
