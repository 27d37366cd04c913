"""Every exception Motet raises on purpose.

MotetError
├── UsageError                 the caller's mistake, never retried
│   ├── NotSupported           the backend does not declare this capability
│   ├── UnknownTask            no task of that name is registered
│   ├── NotSerializable        a value cannot make the journey and come back
│   ├── TooLarge               a value or message is above a limit
│   └── BadBackend             the URL names no backend we can open
├── BackendError               the other side failed; the driver's error is __cause__
│   ├── Unavailable            worth trying again
│   ├── Rejected               not worth trying again
│   ├── StateLost              a record that must exist does not
│   └── LeaseLost              somebody else may own the delivery now
├── DecodeError                bytes that are not what they should be
└── ResultError                what `Handle.result` answers instead of a value
    ├── TaskFailed
    ├── TaskCancelled
    ├── ResultTimeout          also a TimeoutError
    ├── ResultGone
    └── UnknownRun
TaskSignal                     raised by task authors, not a MotetError
├── Retry
└── Fail
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motet.outcome import ErrorInfo

__all__ = [
    "BackendError",
    "BadBackend",
    "DecodeError",
    "Fail",
    "LeaseLost",
    "MotetError",
    "NotSerializable",
    "NotSupported",
    "Rejected",
    "ResultError",
    "ResultGone",
    "ResultTimeout",
    "Retry",
    "StateLost",
    "TaskCancelled",
    "TaskFailed",
    "TaskSignal",
    "TooLarge",
    "Unavailable",
    "UnknownRun",
    "UnknownTask",
    "UsageError",
]


class MotetError(Exception):
    """The root: `except MotetError` catches everything Motet raises on purpose."""


class UsageError(MotetError):
    """Raised when a call cannot be right, whatever the broker does. Change the call."""


class NotSupported(UsageError):
    """Raised when a backend does not declare the capability a call needs.

    Nothing was sent. Choose a backend that has it: docs/guarantees.md lists them.
    """

    def __init__(self, capability: str, backend: str, advice: str = "") -> None:
        self.capability = capability
        self.backend = backend
        self.advice = advice
        super().__init__(capability, backend, advice)

    def __str__(self) -> str:
        text = f"the {self.backend} backend does not support {self.capability!r}"
        return f"{text}: {self.advice}" if self.advice else text


class UnknownTask(UsageError):
    """Raised when a name is not in the registry. Register the task, or correct the name."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        self.name = name
        self.known: tuple[str, ...] = tuple(sorted(known))
        super().__init__(name, self.known)

    def __str__(self) -> str:
        if not self.known:
            return f"no task {self.name!r}: this app has no tasks yet; import the module that defines them"
        return f"no task {self.name!r}; this app knows {', '.join(self.known)}"


class NotSerializable(UsageError):
    """Raised when an argument or a result would not come back equal. Send plain data, or annotate its type."""

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        self.reason = reason
        super().__init__(what, reason)

    def __str__(self) -> str:
        return f"{self.what} cannot be sent: {self.reason}"


class TooLarge(UsageError):
    """Raised when something exceeds a limit. Store it elsewhere and send a reference, or raise the limit."""

    def __init__(self, what: str, size: int, limit: int, unit: str = "bytes") -> None:
        self.what = what
        self.size = size
        self.limit = limit
        self.unit = unit
        super().__init__(what, size, limit, unit)

    def __str__(self) -> str:
        return f"{self.what} is {self.size:,} {self.unit}, the limit is {self.limit:,}"


class BadBackend(UsageError):
    """Raised when a URL names no backend that can be opened. The message says what to install or correct."""


class BackendError(MotetError):
    """Raised when the broker or store failed; the driver's own error is `__cause__`."""


class Unavailable(BackendError):
    """Raised when the backend did not answer in time or was busy. The same call may succeed later."""


class Rejected(BackendError):
    """Raised when the backend refused for a reason that trying again will not change: rights, space, schema."""


class StateLost(BackendError):
    """Raised when a plan or record that a message refers to is gone: swept after the run ended, or wiped."""

    def __init__(self, run: str, what: str) -> None:
        self.run = run
        self.what = what
        super().__init__(run, what)

    def __str__(self) -> str:
        return f"{self.what} of run {self.run} is gone: the run was swept, or the backend was wiped"


class LeaseLost(BackendError):
    """Raised when a delivery is no longer ours. Do nothing more with it: another worker has it."""

    def __init__(self, receipt: str) -> None:
        self.receipt = receipt
        super().__init__(receipt)

    def __str__(self) -> str:
        return f"delivery {self.receipt} is no longer held by this worker"


class DecodeError(MotetError):
    """Raised when bytes from the broker are not a message or record of ours. `raw` holds at most their first KiB."""

    def __init__(self, reason: str, raw: bytes = b"") -> None:
        self.reason = reason
        self.raw: bytes = raw[:1024]
        super().__init__(reason, self.raw)

    def __str__(self) -> str:
        return f"not a Motet message: {self.reason}"


class ResultError(MotetError):
    """Raised by `result()` in place of a value; one of its five kinds says why."""


class TaskFailed(ResultError):
    """Raised when the run ended in failure. `error` says which task, why, and after how many attempts."""

    def __init__(self, error: ErrorInfo) -> None:
        self.error = error
        super().__init__(error)

    def __str__(self) -> str:
        return str(self.error)


class TaskCancelled(ResultError):
    """Raised when the run was cancelled before it ended."""

    def __init__(self, run: str, reason: str = "") -> None:
        self.run = run
        self.reason = reason
        super().__init__(run, reason)

    def __str__(self) -> str:
        return f"run {self.run} was cancelled" + (f": {self.reason}" if self.reason else "")


class ResultTimeout(ResultError, TimeoutError):
    """Raised when the run has not ended within the time given. It goes on; ask again."""

    def __init__(self, run: str, waited: timedelta) -> None:
        self.run = run
        self.waited = waited
        super().__init__(run, waited)

    def __str__(self) -> str:
        return f"run {self.run} has not ended after {self.waited.total_seconds():g} s; is a worker running?"


class ResultGone(ResultError):
    """Raised when the run ended but its value is no longer kept. Raise `result_ttl` to keep it longer."""

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(run)

    def __str__(self) -> str:
        return f"the result of run {self.run} is no longer kept (result_ttl)"


class UnknownRun(ResultError):
    """Raised when the backend knows nothing of this id: never submitted there, or swept since."""

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(run)

    def __str__(self) -> str:
        return f"run {self.run} is not known here: it was never submitted to this backend, or its records have expired"


class TaskSignal(Exception):
    """Raised inside a task to say what shall happen next. Caught in one place, `motet.worker.run`."""


class Retry(TaskSignal):
    """Raise it in a task to run again: after `delay`, or when the task's policy says; the policy's budget holds."""

    def __init__(self, reason: str = "", *, delay: float | timedelta | None = None) -> None:
        self.reason = reason
        self.delay = delay
        super().__init__(reason)


class Fail(TaskSignal):
    """Raise it in a task to fail for good: no retry, whatever the policy says."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)
