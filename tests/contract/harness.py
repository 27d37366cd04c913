"""The suite on trial: a memory backend that breaks one clause must be red in that clause's tests, and in no other."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import attrs

from motet.conformance import BackendContract, Unproven
from motet.conformance.contract import FAILURES, only
from motet.memory import MemoryBackend
from motet.memory import open as open_memory
from motet.memory.clock import VirtualClock
from motet.ports import Clock, Settings

__all__ = ["Saboteur", "clauses", "instead", "quiet", "reds", "saboteur", "saboteurs"]

Break = Callable[[MemoryBackend], None]


@attrs.frozen
class Saboteur:
    """One way to break one clause. `also` are clauses that cannot be kept without it, each with the reason.

    `fault` is the fault under which the tests are run, `settle` how the backend settles.
    """

    clause: str
    breaks: Break
    also: dict[str, str]
    fault: str
    settle: str

    @property
    def name(self) -> str:
        return f"{self.clause} {self.breaks.__name__}"


saboteurs: list[Saboteur] = []


def saboteur(
    clause: str, *, also: dict[str, str] | None = None, fault: str = "plain", settle: str = ""
) -> Callable[[Break], Break]:
    """List a saboteur. It is called with each client that is opened, and changes that, or its world, in place."""

    def listed(breaks: Break) -> Break:
        saboteurs.append(Saboteur(clause, breaks, also or {}, fault, settle))
        return breaks

    return listed


def instead(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function in the place of a method, which it is given before the arguments.

    What clients share is changed by the first of them only: a method that was replaced is left as it is.
    """

    def put(function: Callable[..., Any]) -> Callable[..., Any]:
        if name not in vars(owner):
            setattr(owner, name, functools.partial(function, getattr(owner, name)))
        return function

    return put


@contextmanager
def quiet(letters: Any) -> Generator[None]:
    """Let nobody be woken who waits for a message, however ready it becomes."""
    letters.receivers, receivers = set[Any](), letters.receivers
    try:
        yield
    finally:
        letters.receivers = receivers


class Sabotaged(BackendContract):
    """The contract, run by hand."""

    deadline: ClassVar[float] = 5.0
    saboteur: ClassVar[Saboteur | None] = None

    def __init__(self) -> None:
        self.backend: MemoryBackend | None = None

    def clock(self) -> Clock:
        return VirtualClock()

    @asynccontextmanager
    async def connect(self, settings: Settings) -> AsyncGenerator[MemoryBackend]:
        ordered = "?settle=ordered" if self.saboteur and self.saboteur.settle == "ordered" else ""
        async with open_memory(f"memory://trial{id(settings.clock)}{ordered}", settings) as backend:
            # What outlives a restart is tested here too: the world stays, unless a saboteur has it forget.
            backend.capabilities = attrs.evolve(backend.capabilities, durable=True)
            if self.saboteur is not None:
                self.saboteur.breaks(backend)
            self.backend = backend
            yield backend
            await getattr(backend, "on_close", anyio.lowlevel.checkpoint)()

    async def restart(self) -> None:
        """Restart a world: a saboteur may have left it something to do, as `on_restart`."""
        assert self.backend is not None
        getattr(self.backend.world, "on_restart", lambda: None)()


def clauses() -> set[str]:
    """Every clause that some test claims to prove."""
    return {clause for proven in BackendContract.claims().values() for clause in proven}


def reds(chosen: Saboteur | None) -> dict[str, str]:
    """Run every test against a saboteur; name those that failed, with the error."""
    trial: Any = type("Trial", (Sabotaged,), {"saboteur": chosen})()
    fault = chosen.fault if chosen else "plain"
    failed: dict[str, str] = {}
    for name in BackendContract.claims():
        test = getattr(BackendContract, name)
        if fault != "plain" and not test.__repeats__:
            continue
        try:
            anyio.run(trial.attempt, test, fault)
        except FAILURES as error:
            reason = only(error)
            if not isinstance(reason, Unproven):
                failed[name] = f"{type(reason).__name__}: {reason}".splitlines()[0]
    return failed
