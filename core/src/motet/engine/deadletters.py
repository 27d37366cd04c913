"""Where messages go that nobody can or shall run: kept with the reason, never dropped."""

from __future__ import annotations

from datetime import datetime

from motet.message import DeadLetter
from motet.outcome import ErrorInfo
from motet.ports import Delivery, Filter
from motet.program import Bury

__all__ = ["agrees", "bury"]


def bury(delivery: Delivery, error: ErrorInfo, now: datetime) -> Bury:
    """Keep a message that is given up, under its own id."""
    return Bury(DeadLetter(delivery.id, delivery.lane, error.task, delivery.body, error, now))


def agrees(letter: DeadLetter, filter: Filter) -> bool:
    """Say whether a filter chooses a letter (X4)."""
    return (
        filter.queue in (None, letter.lane.queue)
        and filter.task in (None, letter.task)
        and filter.kind in (None, letter.error.kind)
        and (filter.since is None or letter.at >= filter.since)
        and (filter.before is None or letter.at < filter.before)
    )
