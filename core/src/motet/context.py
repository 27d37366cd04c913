"""What a running task may know and ask: its ids, its progress, and other terms in its place."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Never, NoReturn, TypeVar

import attrs

from motet.canvas.terms import Term
from motet.errors import UsageError

__all__ = ["Context", "Replacement", "Spawn", "injected"]


class _Injected:
    """The default of injected parameters, so that checkers and plain calls may leave them out."""

    def __repr__(self) -> str:
        return "injected"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(f"an injected parameter has no {name!r} outside a worker: pass it in this call")


T = TypeVar("T")

injected: Any = _Injected()


@attrs.frozen
class Spawn:
    """A term to send when the task has succeeded."""

    term: Term[Any, Any]
    key: str
    attach: bool


@attrs.frozen
class Replacement:
    """Returned by a task: its value shall be that of another term."""

    term: Term[Any, Any]


@attrs.define
class Context:
    """The execution that a task finds itself in. Annotate a parameter: `ctx: Context = injected`."""

    id: str
    """The message's place in its run; the same in every attempt."""
    run_id: str
    attempt: int
    """Counts from 1."""
    task: str
    deadline: datetime | None = None
    headers: dict[str, str] = attrs.field(factory=dict[str, str])
    spawned: list[Spawn] = attrs.field(factory=list[Spawn], repr=False)
    report: Callable[[int, int], None] | None = attrs.field(default=None, repr=False)
    stopping: Callable[[], bool] | None = attrs.field(default=None, repr=False)

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt and redelivery: give it to systems that can refuse a second effect."""
        return f"{self.run_id}:{self.id}"

    def replace(self, term: Term[Never, T]) -> T:
        """Return this from the task: its value becomes the term's, which runs in its place and in its scope."""
        replacement: Any = Replacement(term)
        value: T = replacement  # what the task's caller will see; the worker knows better
        return value

    def spawn(self, term: Term[Never, Any], *, key: str = "", attach: bool = False) -> None:
        """Send another term when this attempt succeeds; a failed attempt sends nothing.

        It becomes a run of its own, or, with `attach`, part of this one: then this task's outcome waits for it.
        """
        self.spawned.append(Spawn(term, key or str(len(self.spawned)), attach))

    def progress(self, done: int, total: int) -> None:
        """Say how far the task is, in absolute numbers; the latest wins."""
        if self.report is not None:
            self.report(done, total)

    @property
    def cancelled(self) -> bool:
        """Whether the task has been asked to stop: by a cancel, its timeout or the worker's end. Threads must look."""
        return self.stopping is not None and self.stopping()


running: ContextVar[Context | None] = ContextVar("motet.running", default=None)
"""The execution that this code is part of, if any."""
