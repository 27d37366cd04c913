"""Retry policies: pure functions of the error, the attempt and one roll of the dice.

`max_retries=n` means exactly n runs after the first; the first wait is exactly the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs

from motet.errors import UsageError
from motet.options import seconds

__all__ = ["ExponentialBackoff", "FixedDelay", "LinearBackoff", "NoRetry", "RemoteError", "RetryPolicy", "policy"]


def names(types: Any) -> tuple[str, ...]:
    """Turn exception types, or their names, into names: a policy must travel as data."""
    if isinstance(types, str | type):
        types = (types,)
    return tuple(each if isinstance(each, str) else each.__qualname__ for each in types)


class RemoteError(Exception):
    """An error of another process, by the names of its class and of those that it extends: what policies choose by."""

    def __init__(self, message: str, qualnames: tuple[str, ...]) -> None:
        self.qualnames = qualnames
        super().__init__(message, qualnames)

    def __str__(self) -> str:
        return str(self.args[0])


def qualnames(error: BaseException) -> tuple[str, ...]:
    """Name the class of an error and every class that it extends, wherever it was raised."""
    if isinstance(error, RemoteError):
        return error.qualnames
    return tuple(kind.__qualname__ for kind in type(error).__mro__)


def base_delay(value: float | timedelta) -> float:
    """Read the first wait."""
    return seconds(value, "the base delay")


@attrs.frozen
class RetryPolicy:
    """Decides whether a failed attempt is followed by another, and when.

    A policy of your own overrides `delay`, is set on the task (not on one call), and must depend on its
    arguments only.
    """

    def delay(self, error: BaseException, attempt: int, roll: float) -> timedelta | None:
        """Return the wait before attempt + 1, or None to give up; `roll` is a number in [0, 1) for jitter."""
        raise TypeError(f"{type(self).__name__} must define delay(error, attempt, roll)")


@attrs.frozen
class NoRetry(RetryPolicy):
    """Never again: the default."""

    def delay(self, error: BaseException, attempt: int, roll: float) -> timedelta | None:
        return None


@attrs.frozen
class _Counted(RetryPolicy):
    """Waits a number of times; `on` and `never` choose by exception type, subclasses included."""

    base: float = attrs.field(default=10.0, converter=base_delay)
    max_retries: int = attrs.field(default=5)
    cap: float | None = attrs.field(default=None, kw_only=True)
    jitter: float = attrs.field(default=0.0, kw_only=True)
    on: tuple[str, ...] = attrs.field(default=(), converter=names, kw_only=True)
    never: tuple[str, ...] = attrs.field(default=(), converter=names, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.max_retries < 0:
            raise UsageError(f"max_retries={self.max_retries}: 0 means never again")
        if not 0 <= self.jitter <= 1:
            raise UsageError(f"jitter={self.jitter}: a share of the delay, from 0 to 1")

    def wait(self, attempt: int) -> float:
        """Return the seconds after this attempt, before cap and jitter."""
        return self.base

    def delay(self, error: BaseException, attempt: int, roll: float) -> timedelta | None:
        kinds = set(qualnames(error))
        if attempt > self.max_retries or kinds & set(self.never) or (self.on and not kinds & set(self.on)):
            return None
        wait = min(self.wait(attempt), 3e8 if self.cap is None else self.cap)
        return timedelta(seconds=wait * (1 - self.jitter * roll))


@attrs.frozen
class FixedDelay(_Counted):
    """Waits `base` seconds each time."""


@attrs.frozen
class LinearBackoff(_Counted):
    """Waits base, 2 x base, 3 x base, ..."""

    def wait(self, attempt: int) -> float:
        return self.base * attempt


@attrs.frozen
class ExponentialBackoff(_Counted):
    """Waits base, base x factor, base x factor², ..."""

    factor: float = attrs.field(default=2.0, kw_only=True)

    def wait(self, attempt: int) -> float:
        # Bounded before the power: 2.0 ** 1025 would overflow.
        return self.base * self.factor ** min(attempt - 1, 512)


KINDS: dict[str, type[RetryPolicy]] = {
    kind.__name__: kind for kind in (NoRetry, FixedDelay, LinearBackoff, ExponentialBackoff)
}


def to_mapping(retry_policy: RetryPolicy) -> dict[str, Any]:
    """Write a built-in policy as data, so that one call can carry it.

    Raises:
        UsageError: The policy is not one of ours; it cannot travel and belongs on the task.
    """
    kind = type(retry_policy).__name__
    if KINDS.get(kind) is not type(retry_policy):
        raise UsageError(f"{kind} cannot travel with a call: set it on the task, @app.task(retry_policy=...)")
    fields: dict[str, Any] = attrs.asdict(retry_policy)
    return {"kind": kind, **{name: _listed(value) for name, value in fields.items()}}


def _listed(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value


def policy(mapping: Mapping[str, Any]) -> RetryPolicy:
    """Read back what `to_mapping` wrote. An unknown kind, from a newer release, never retries."""
    fields = dict(mapping)
    return KINDS.get(fields.pop("kind"), NoRetry)(**fields) if fields.get("kind") in KINDS else NoRetry()
