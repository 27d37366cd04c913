"""What the broker's refusals and the system's errors mean to a caller: one table. No other exception crosses a port."""

from __future__ import annotations

from motet.errors import MotetError, Rejected, Unavailable

__all__ = ["Blocked", "ConsumerGone", "Foreign", "Locked", "Lost", "Missing", "Refusal", "Unroutable", "translate"]


class Refusal(Exception):
    """What the broker said when it closed a channel or a connection. It is translated before it leaves the wire."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"{said} ({code})")
        self.code = code
        self.said = said


class Lost(Unavailable):
    """Raised when a channel or its connection ended. Deliveries held on it come again; what it was told may be done."""


class ConsumerGone(Unavailable):
    """Raised when the broker ended a consumer: its queue was deleted, or has moved. Consume again."""


class Blocked(Unavailable):
    """Raised when the broker takes no messages because its memory or disk is short. It names the alarm."""


class Missing(Rejected):
    """Raised when there is no such queue or exchange (404). Declare it first."""


class Foreign(Rejected):
    """Raised when a queue or exchange is there with other arguments than ours (406). It names both."""


class Locked(Rejected):
    """Raised when a queue belongs to another connection alone (405)."""


class Unroutable(Rejected):
    """Raised when a mandatory message had no queue to go to; `keys` are (exchange, routing key) of what came back.

    The other messages of the same publish are stored. Declare the target, and publish again.
    """

    def __init__(self, keys: tuple[tuple[str, str], ...]) -> None:
        self.keys = keys
        super().__init__(keys)

    def __str__(self) -> str:
        first = ", ".join(f"{exchange or 'default'}/{key}" for exchange, key in self.keys[:3])
        return f"no queue is bound for {first}: declare it, then publish again"


def translate(error: BaseException, place: str) -> MotetError:
    """Return what to raise in place of an error; the original becomes its cause."""
    raise NotImplementedError
