"""What happened to a task, and what to do about it. Pure: the clock, the dice and the broker are elsewhere."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from motet.errors import Fail, Retry

if TYPE_CHECKING:
    from motet.retry import RetryPolicy

__all__ = [
    "Again",
    "Cancelled",
    "End",
    "ErrorInfo",
    "Failure",
    "Kind",
    "Outcome",
    "Replaced",
    "Success",
    "Verdict",
    "decide",
]


class Kind(enum.StrEnum):
    """Why a node failed."""

    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    EXPIRED = "expired"
    UNKNOWN_TASK = "unknown_task"
    MALFORMED = "malformed"
    WORKER_LOST = "worker_lost"
    RESULT_TOO_LARGE = "result_too_large"
    NOT_SERIALIZABLE = "not_serializable"
    GROUP = "group"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    STATE_LOST = "state_lost"
    SETTLE_ERROR = "settle_error"


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="motet", tag="error"):
    """A failure as data: what `on_failure`, `.recover` and `TaskFailed` receive. Never turned back into a class."""

    kind: str
    type: str = ""
    message: str = ""
    task: str = ""
    run: str = ""
    node: str = ""
    path: tuple[int, ...] = ()
    attempts: int = 1
    causes: tuple[ErrorInfo, ...] = ()
    arguments: Mapping[str, Any] | None = None
    traceback: str | None = None

    def __str__(self) -> str:
        what = f"{self.type}: {self.message}" if self.type else self.message or self.kind
        if self.kind == Kind.GROUP:
            listed = "; ".join(str(cause) for cause in self.causes[:3])
            more = f"; and {len(self.causes) - 3} more" if len(self.causes) > 3 else ""
            return f"{len(self.causes)} of a group failed: {listed}{more}"
        after = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{self.task or 'task'} failed{after}: {what}"


class Success(msgspec.Struct, frozen=True, gc=False):
    """The task returned; `value` is encoded already, so a failure to encode is a failure of the task."""

    value: bytes


class Failure(msgspec.Struct, frozen=True):
    """The task did not return. `exception` is kept only until `decide`: policies choose by its real type."""

    error: ErrorInfo
    exception: BaseException | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """Somebody asked for the run or scope to stop."""

    reason: str = ""


class Replaced(msgspec.Struct, frozen=True):
    """The task's value is that of another term: the pages of its plan, and values too large for them.

    `kept` is the task's own value when it spawned attached children and only waits for them.
    """

    segment: str
    pages: tuple[bytes, ...]
    values: tuple[tuple[str, bytes], ...] = ()
    kept: bytes | None = None


Outcome: TypeAlias = Success | Failure | Cancelled | Replaced


class Again(msgspec.Struct, frozen=True, gc=False):
    """Run the node again, `delay` from now, as attempt + 1."""

    delay: timedelta


class End(msgspec.Struct, frozen=True, gc=False):
    """The outcome stands."""


Verdict: TypeAlias = Again | End
END = End()

FINAL = frozenset(
    {Kind.EXPIRED, Kind.UNKNOWN_TASK, Kind.MALFORMED, Kind.RESULT_TOO_LARGE, Kind.NOT_SERIALIZABLE, Kind.SETTLE_ERROR}
)


def decide(outcome: Outcome, attempt: int, retry_policy: RetryPolicy, roll: float) -> Verdict:
    """Turn an outcome into the one thing to do about it.

    `Fail` always ends; `Retry(delay=...)` chooses the wait but not the budget: under a policy that gives up at this
    attempt it gives up too.
    """
    if not isinstance(outcome, Failure) or outcome.error.kind in FINAL:
        return END
    error = outcome.exception if outcome.exception is not None else TimeoutError(outcome.error.message)
    if isinstance(error, Fail):
        return END
    delay = retry_policy.delay(error, attempt, roll)
    if delay is None:
        return END
    if isinstance(error, Retry) and error.delay is not None:
        wanted = error.delay
        delay = wanted if isinstance(wanted, timedelta) else timedelta(seconds=wanted)
    return Again(delay)
