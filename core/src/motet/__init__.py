"""Background tasks and their composition, on the broker that is there already."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from motet.app import Motet
    from motet.canvas.terms import Chain, Group, Signature, Term, chain, chord, group, signature
    from motet.context import Context, injected
    from motet.errors import (
        BackendError,
        BadBackend,
        DecodeError,
        Fail,
        LeaseLost,
        MotetError,
        NotSerializable,
        NotSupported,
        Rejected,
        ResultError,
        ResultGone,
        ResultTimeout,
        Retry,
        StateLost,
        TaskCancelled,
        TaskFailed,
        TaskSignal,
        TooLarge,
        Unavailable,
        UnknownRun,
        UnknownTask,
        UsageError,
    )
    from motet.handle import GroupHandle, Handle, Progress, Status
    from motet.options import Priority, Size
    from motet.outcome import ErrorInfo
    from motet.portal import Applied, SyncHandle
    from motet.retry import ExponentialBackoff, FixedDelay, LinearBackoff, NoRetry, RetryPolicy

__all__ = [
    "Applied",
    "BackendError",
    "BadBackend",
    "Chain",
    "Context",
    "DecodeError",
    "ErrorInfo",
    "ExponentialBackoff",
    "Fail",
    "FixedDelay",
    "Group",
    "GroupHandle",
    "Handle",
    "LeaseLost",
    "LinearBackoff",
    "Motet",
    "MotetError",
    "NoRetry",
    "NotSerializable",
    "NotSupported",
    "Priority",
    "Progress",
    "Rejected",
    "ResultError",
    "ResultGone",
    "ResultTimeout",
    "Retry",
    "RetryPolicy",
    "Signature",
    "Size",
    "StateLost",
    "Status",
    "SyncHandle",
    "TaskCancelled",
    "TaskFailed",
    "TaskSignal",
    "Term",
    "TooLarge",
    "Unavailable",
    "UnknownRun",
    "UnknownTask",
    "UsageError",
    "chain",
    "chord",
    "group",
    "injected",
    "signature",
]

HOMES = ("errors", "options", "outcome", "retry", "context", "canvas.terms", "handle", "app", "portal")
"""Where the public names are, inner modules first. Each is imported when a name is asked for, because a supervisor of
workers or `motet --help` needs none of them: 25 ms instead of 200."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in __all__:
            from importlib import import_module

            for home in HOMES:
                module = import_module(f"motet.{home}")
                if name in module.__all__:
                    value = globals()[name] = getattr(module, name)
                    return value
        raise AttributeError(f"module 'motet' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
