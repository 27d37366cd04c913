"""The tasks of simulated workflows. Each value says which execution it came from and what that was given."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field
from typing import Any, Protocol

from actors import Actor, acting

from motet import Context, Motet, Term, injected
from motet.outcome import ErrorInfo

__all__ = ["Execution", "Stage", "app", "digest"]

app = Motet("memory://", namespace="sim")
ERROR = "error"


@dataclass
class Execution:
    """One time that a task's body was entered."""

    nonce: int
    name: str
    run: str
    place: str
    attempt: int
    actor: Actor
    start: float
    given: int
    replacement: Term[Any, Any] | None = None
    spawned: dict[str, tuple[Term[Any, Any], bool]] = field(default_factory=dict[str, tuple[Term[Any, Any], bool]])

    @property
    def message(self) -> str:
        """The id of the message that it came from."""
        return f"{self.run}:{self.place}:r{self.attempt}"


class Stage(Protocol):
    """What a body needs of its schedule."""

    rng: random.Random
    executions: list[Execution]
    lease: float
    long: float

    def term(self, leaves: int) -> Term[Any, Any]:
        """Make up a term."""
        ...

    def note(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        ...


def plain(value: Any) -> Any:
    """Forget what an error says: only that it is one can be foretold."""
    if isinstance(value, ErrorInfo) or (isinstance(value, dict) and value.get("motet") == ERROR):
        return ERROR
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def digest(given: Any) -> int:
    """A number for a list of inputs: 0 when there is none."""
    return zlib.crc32(repr(plain(given)).encode()) if given else 0


async def enter(args: tuple[Any, ...], ctx: Context, *, yields: bool = True) -> tuple[Execution, Any]:
    """Begin a body: note it down, and take a while."""
    actor = acting.get()
    await actor.awake()
    stage: Any = actor.host
    *given, name = args
    execution = Execution(
        len(stage.executions), name, ctx.run_id, ctx.id, ctx.attempt, actor, stage.clock.monotonic(), digest(given)
    )
    stage.executions.append(execution)
    stage.note(actor.name, f"runs {execution.message} as {name}")
    rng = stage.rng
    if rng.random() < 0.5:
        long = rng.random() < stage.long
        await stage.clock.sleep(stage.lease * (0.8 + rng.random()) if long else rng.expovariate(10))
        await actor.awake()
    return execution, stage


def value(execution: Execution, stage: Any) -> list[Any]:
    """What a body returns; now and then a large one."""
    large = ["x" * 200] if stage.rng.random() < stage.large else []
    return [execution.name, execution.nonce, execution.given, *large]


@app.task(name="sim:leaf")
async def leaf(*args: Any, ctx: Context = injected) -> list[Any]:
    """Say who ran, and on what."""
    execution, stage = await enter(args, ctx)
    return value(execution, stage)


@app.task(name="sim:boom")
async def boom(*args: Any, ctx: Context = injected) -> list[Any]:
    """Fail."""
    execution, _ = await enter(args, ctx)
    raise RuntimeError(execution.name)


@app.task(name="sim:flaky")
async def flaky(*args: Any, ctx: Context = injected) -> list[Any]:
    """Fail every other time."""
    execution, stage = await enter(args, ctx)
    if stage.rng.random() < 0.5:
        raise RuntimeError(execution.name)
    return value(execution, stage)


@app.task(name="sim:swap")
async def swap(*args: Any, ctx: Context = injected) -> Any:
    """Let another term take the place: a different one each time."""
    execution, stage = await enter(args, ctx)
    execution.replacement = stage.term(stage.rng.randrange(1, 4))
    return ctx.replace(execution.replacement)


@app.task(name="sim:spawn")
async def spawn(*args: Any, ctx: Context = injected) -> list[Any]:
    """Send other terms: a different number each time."""
    execution, stage = await enter(args, ctx)
    for number in range(stage.rng.randrange(1, 3)):
        term, attach = stage.term(stage.rng.randrange(1, 3)), stage.rng.random() < 0.4
        execution.spawned[str(number)] = term, attach
        ctx.spawn(term, attach=attach)
    return value(execution, stage)


@app.task(name="sim:poison")
async def poison(*args: Any, ctx: Context = injected) -> list[Any]:
    """Kill whoever runs this."""
    execution, stage = await enter(args, ctx)
    execution.actor.crash("poisoned")
    await stage.clock.sleep(1.0)
    return value(execution, stage)
