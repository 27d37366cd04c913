"""The work of a fleet: runs of every shape, each with what it must come to.

Every task notes its start and its end. The first argument that is not fed is the step: the run's id, a slash, and a
name in the run's shape, so that callbacks and spawned runs, whose ids are derived, are known for what they belong to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import attrs
import doors
from history import Journal, Shape, Step

from motet import Context, ErrorInfo, FixedDelay, Motet, Term, chain, group, injected

__all__ = ["KINDS", "LEASE", "Piece", "app", "called", "member", "mended", "total"]

T = TypeVar("T")

LEASE = 0.6
app = Motet(os.environ.get("FAULTS_URL", "memory://"), lease=LEASE)
_journals: dict[int, Journal] = {}
SURE: dict[str, Any] = {"max_deliveries": 1000}
"""A call here may meet any number of dying workers and is none the worse for it: the kills are not its own."""


@contextmanager
def noted(step: str, ctx: Context, given: Any = None) -> Iterator[Callable[[T], T]]:
    """Note the start of a body, and its end with the value that goes through what is yielded."""
    pid = os.getpid()
    if pid not in _journals:
        _journals[pid] = Journal(Path(os.environ["FAULTS_HISTORY"]))
    journal, came = _journals[pid], []

    def ends(value: T) -> T:
        came.append(value)
        return value

    journal.note(step, ctx.idempotency_key, ctx.attempt, "start", given)
    try:
        yield ends
    except Exception:
        journal.note(step, ctx.idempotency_key, ctx.attempt, "fail")
        raise
    journal.note(step, ctx.idempotency_key, ctx.attempt, "end", came[-1])


@app.task(name="faults:member", **SURE)
async def member(step: str, n: int, ctx: Context = injected) -> int:
    with noted(step, ctx) as ends:
        await anyio.sleep(0.002)
        return ends(n)


@app.task(name="faults:quick", **SURE)
async def quick(step: str, n: int, ballast: str = "", ctx: Context = injected) -> int:
    with noted(step, ctx) as ends:
        return ends(n)


@app.task(name="faults:thread", **SURE)
def thread(step: str, n: int, ctx: Context = injected) -> int:
    with noted(step, ctx) as ends:
        return ends(n)


@app.task(name="faults:slow", **SURE)
async def slow(given: int, step: str, ctx: Context = injected) -> int:
    with noted(step, ctx, given) as ends:
        await anyio.sleep(0.05)
        return ends(given + 1)


@app.task(name="faults:flaky", retry_policy=FixedDelay(0.01, max_retries=5), **SURE)
async def flaky(step: str, n: int, ctx: Context = injected) -> int:
    with noted(step, ctx) as ends:
        if ctx.attempt == 1:
            raise ValueError("the first attempt always fails")
        return ends(n)


@app.task(name="faults:patient", retry_policy=FixedDelay(2.5 * LEASE, max_retries=3), **SURE)
async def patient(step: str, n: int, ctx: Context = injected) -> int:
    """Waits for its next attempt for longer than anybody's lease lasts."""
    with noted(step, ctx) as ends:
        if ctx.attempt == 1:
            raise ValueError("the first attempt always fails")
        return ends(n)


@app.task(name="faults:mended", dlq_eligible=True, **SURE)
async def mended(root: str, n: int, ctx: Context = injected) -> int:
    """Fails as the run that was submitted, and not as the one that its dead letter is replayed as."""
    first = ctx.run_id == root
    with noted(f"{root}/{'first' if first else 'again'}", ctx) as ends:
        if first:
            raise ValueError("the first run always fails")
        return ends(n)


@app.task(name="faults:bulky", **SURE)
async def bulky(step: str, size: int, ctx: Context = injected) -> str:
    with noted(step, ctx) as ends:
        ends(size)
        return "x" * size


@app.task(name="faults:measured", **SURE)
async def measured(given: str, step: str, ctx: Context = injected) -> int:
    with noted(step, ctx) as ends:
        return ends(len(given))


@app.task(name="faults:total", **SURE)
async def total(values: list[Any], step: str, ctx: Context = injected) -> int:
    with noted(step, ctx) as ends:
        return ends(_sum(values))


def _sum(values: Any) -> int:
    return sum(map(_sum, values)) if isinstance(values, list) else values


@app.task(name="faults:plus", **SURE)
async def plus(given: int, step: str, n: int, ctx: Context = injected) -> int:
    with noted(step, ctx, given) as ends:
        return ends(given + n)


@app.task(name="faults:replaced", **SURE)
async def replaced(given: int, step: str, ctx: Context = injected) -> int:
    root = step.partition("/")[0]
    with noted(step, ctx, given) as ends:
        ends(None)
        return ctx.replace(group(member.s(f"{root}/r0", given), thread.s(f"{root}/r1", 1)) | total.s(f"{root}/r"))


@app.task(name="faults:spawner", **SURE)
async def spawner(step: str, n: int, ctx: Context = injected) -> int:
    root = step.partition("/")[0]
    with noted(step, ctx) as ends:
        ctx.spawn(member.s(f"{root}/child", 7))
        return ends(n)


@app.task(name="faults:broken", dlq_eligible=True, **SURE)
async def broken(step: str, ctx: Context = injected) -> int:
    with noted(step, ctx):
        raise ValueError("it always fails")


@app.task(name="faults:told", **SURE)
async def told(error: ErrorInfo, step: str, ctx: Context = injected) -> None:
    with noted(step, ctx) as ends:
        ends(None)


@app.task(name="faults:called", **SURE)
async def called(given: int, step: str, ctx: Context = injected) -> None:
    with noted(step, ctx, given) as ends:
        ends(None)


@app.task(name="faults:draw", **SURE)
async def draw(step: str, ctx: Context = injected) -> str:
    """Every execution comes to something else: only one may be seen."""
    with noted(step, ctx) as ends:
        return ends(f"{os.getpid()}.{time.monotonic_ns()}")


@app.task(name="faults:echo", **SURE)
async def echo(given: str, step: str, ctx: Context = injected) -> str:
    with noted(step, ctx, given) as ends:
        return ends(given)


@attrs.frozen
class Piece:
    """One run: what is submitted, how, and what it must come to."""

    term: Term[Any, Any]
    shape: Shape
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    cancel: bool = False
    door: Callable[[Motet, str, Term[Any, Any]], Awaitable[None]] | None = None
    """Another way in than `submit`; it may be taken twice like that one."""

    async def submit(self, root: str) -> None:
        """Submit it under this id; once more makes sure of one run."""
        if self.door is not None:
            await self.door(app, root, self.term)
        else:
            await self.term.submit(id=root, **self.options)


def chord(root: str) -> Piece:
    inner = group(member.s(f"{root}/n0", 10), member.s(f"{root}/n1", 20))
    members = group(*(member.s(f"{root}/m{n}", n) for n in range(4)), thread.s(f"{root}/t", 100), inner)
    term = (members | total.s(f"{root}/total")).on_success(called.s(f"{root}/called"))
    header = ("m0", "m1", "m2", "m3", "t", "n0", "n1")
    steps = {**dict.fromkeys(header, Step()), "total": Step(header), "called": Step(("total",), fed="total")}
    return Piece(term, Shape(steps, value=136))


def steps(root: str) -> Piece:
    term = chain(flaky.s(f"{root}/flaky", 5), replaced.s(f"{root}/replaced"), plus.s(f"{root}/plus", 1000))
    shape = {
        "flaky": Step(),
        "replaced": Step(("flaky",), fed="flaky"),
        "r0": Step(("replaced",)),
        "r1": Step(("replaced",)),
        "r": Step(("r0", "r1")),
        "plus": Step(("r",), fed="r"),
    }
    return Piece(term, Shape(shape, value=1006))


def spawning(root: str) -> Piece:
    term = chain(spawner.s(f"{root}/spawner", 3), plus.s(f"{root}/plus", 4))
    after = ("spawner",)
    return Piece(term, Shape({"spawner": Step(), "child": Step(after), "plus": Step(after, fed="spawner")}, value=7))


def failing(root: str) -> Piece:
    members = group(broken.s(f"{root}/broken"), *(member.s(f"{root}/m{n}", n) for n in range(3)))
    term = (members.policy("fail_fast") | total.s(f"{root}/total")).on_failure(told.s(f"{root}/told"))
    spared = Step(must=False)
    shape = {"broken": Step(), "m0": spared, "m1": spared, "m2": spared}
    shape |= {"told": Step(("broken",)), "total": Step(never=True, must=False)}
    return Piece(term, Shape(shape, states=("failed",)))


def drawing(root: str) -> Piece:
    term = chain(draw.s(f"{root}/draw"), echo.s(f"{root}/e1"), echo.s(f"{root}/e2"))
    shape = {"draw": Step(), "e1": Step(("draw",), fed="draw"), "e2": Step(("e1",), fed="e1")}
    return Piece(term, Shape(shape, of="e2"))


def cancelling(root: str) -> Piece:
    term = chain(member.s(f"{root}/s0", 0), *(slow.s(f"{root}/s{n}") for n in range(1, 9)))
    shape = {"s0": Step()} | {f"s{n}": Step((f"s{n - 1}",), fed=f"s{n - 1}") for n in range(1, 9)}
    return Piece(term, Shape(shape, states=("ok", "cancelled"), value=8), cancel=True)


def waiting(root: str) -> Piece:
    """A retry that is parked for longer than a lease."""
    term = chain(patient.s(f"{root}/patient", 5), plus.s(f"{root}/plus", 6))
    return Piece(term, Shape({"patient": Step(), "plus": Step(("patient",), fed="patient")}, value=11))


def racing(root: str) -> Piece:
    """So short that a cancel meets its end."""
    term = chain(member.s(f"{root}/s0", 0), slow.s(f"{root}/s1"))
    shape = {"s0": Step(), "s1": Step(("s0",), fed="s0")}
    return Piece(term, Shape(shape, states=("ok", "cancelled"), value=1), cancel=True)


def buried(root: str) -> Piece:
    """A call that leaves a dead letter, which is replayed."""
    return Piece(mended.s(root, 9), Shape({"first": Step(), "again": Step(("first",))}, states=("failed",)))


def wide(root: str, members: int = 300, ballast: str = "", **options: Any) -> Piece:
    names = tuple(f"m{n}" for n in range(members))
    term = group(quick.s(f"{root}/{name}", n, ballast) for n, name in enumerate(names)) | total.s(f"{root}/total")
    shape = Shape({**dict.fromkeys(names, Step()), "total": Step(names)}, value=sum(range(members)))
    return Piece(term, shape, options)


def swept(root: str) -> Piece:
    """More records than one call of a sweep removes, soon after its end."""
    return wide(root, 1100, result_ttl=1.0)


def heavy(root: str) -> Piece:
    """More pages than are stored in one call, by the size of the arguments."""
    return wide(root, 700, "x" * 12_000)


def vast(root: str) -> Piece:
    """A value that is more than one message of a broker may carry."""
    term = chain(bulky.s(f"{root}/bulky", 1_500_000), measured.s(f"{root}/measured"))
    return Piece(term, Shape({"bulky": Step(), "measured": Step(("bulky",))}, value=1_500_000))


def keyed(root: str) -> Piece:
    return Piece(member.s(f"{root}/m", 3), Shape({"m": Step()}, value=3), door=doors.admit)


def fired(root: str) -> Piece:
    return Piece(member.s(f"{root}/m", 4), Shape({"m": Step()}, value=4), door=doors.fire)


def replayed(root: str) -> Piece:
    return Piece(member.s(f"{root}/m", 5), Shape({"m": Step()}, value=5), door=doors.replay)


KINDS: Mapping[str, Callable[[str], Piece]] = {
    "chord": chord,
    "steps": steps,
    "spawning": spawning,
    "failing": failing,
    "drawing": drawing,
    "cancelling": cancelling,
    "waiting": waiting,
    "racing": racing,
    "buried": buried,
    "vast": vast,
    "keyed": keyed,
    "fired": fired,
    "replayed": replayed,
    "wide": wide,
    "swept": swept,
    "heavy": heavy,
}
