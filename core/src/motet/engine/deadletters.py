"""Where messages go that nobody can or shall run: kept with the reason, never dropped."""

from __future__ import annotations

from datetime import datetime

from motet.message import DeadLetter
from motet.outcome import ErrorInfo
from motet.ports import Delivery
from motet.program import Bury

__all__ = ["bury"]


def bury(delivery: Delivery, error: ErrorInfo, now: datetime) -> Bury:
    """Keep a message that is given up, under its own id."""
    return Bury(DeadLetter(delivery.id, delivery.lane, error.task, delivery.body, error, now))
