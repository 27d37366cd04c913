"""Where messages go that nobody can or shall run: kept with the reason, never dropped."""

from __future__ import annotations

from datetime import datetime

import msgspec

from motet.message import Key, pack
from motet.outcome import ErrorInfo
from motet.ports import Delivery
from motet.program import Put

__all__ = ["DEAD", "DeadLetter", "dead_letter"]

DEAD = "dead-letters"
"""The run under which dead letters are kept; it is never swept."""


class DeadLetter(msgspec.Struct, frozen=True, array_like=True):
    """A message as it came, and why it was given up."""

    id: str
    queue: str
    body: bytes
    error: ErrorInfo
    at: float


def dead_letter(delivery: Delivery, error: ErrorInfo, now: datetime) -> Put:
    """Keep a message that is given up."""
    letter = DeadLetter(delivery.id, delivery.lane.queue, delivery.body, error, now.timestamp())
    return Put(Key(DEAD, f"d.{delivery.id}"), pack(letter))
