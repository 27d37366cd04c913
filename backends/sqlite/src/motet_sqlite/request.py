"""What the loop asks of the writer's thread."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import anyio

from motet.options import Lane
from motet.program import Op
from motet_sqlite.database import Database
from motet_sqlite.ledger import Ledger

__all__ = ["Ask", "Kind", "Receive", "Step", "Withdraw"]


class Kind(enum.Enum):
    """When, in a transaction, a step is done."""

    NOTE = "note"
    """In the ledger, before it is written."""
    DEED = "deed"
    """By statements of its own, after the ledger is written."""


class Step:
    """One thing that fails or succeeds by itself (P6), in a transaction with whatever was asked at the same time.

    `programs` and `receipts` say what it will read. What is not `durable` is not worth an fsync: it undoes itself, as a
    lease does when the machine dies.
    """

    __slots__ = ("answer", "durable", "error", "kind", "programs", "receipts", "run", "submits")

    def __init__(
        self,
        run: Callable[[Ledger], Any],
        *,
        kind: Kind = Kind.NOTE,
        programs: Sequence[Sequence[Op]] = (),
        receipts: Sequence[str] = (),
        durable: bool = True,
        submits: bool = False,
    ) -> None:
        self.run = run
        self.kind = kind
        self.programs = programs
        self.receipts = receipts
        self.durable = durable
        self.submits = submits
        self.answer: Any = None
        self.error: BaseException | None = None


class Ask:
    """Steps, or a look at the database, whose answers are awaited together."""

    __slots__ = ("answer", "error", "event", "look", "steps")

    def __init__(self, steps: Sequence[Step] = (), look: Callable[[Database], Any] | None = None) -> None:
        self.steps = steps
        self.look = look
        self.answer: Any = None
        self.error: BaseException | None = None
        self.event = anyio.Event()


class Receive(Ask):
    """A receiver that waits for messages."""

    __slots__ = ("fresh", "give_up", "lanes", "limit", "paused", "withdrawn")

    def __init__(self, lanes: Sequence[Lane], limit: int, wait: timedelta, *, paused: bool) -> None:
        super().__init__()
        self.paused = paused
        self.lanes = lanes
        self.limit = limit
        self.give_up = time.monotonic() + wait.total_seconds()
        self.fresh = True
        self.withdrawn = False


class Withdraw:
    """A request whose caller was cancelled."""

    __slots__ = ("request",)

    def __init__(self, request: Receive) -> None:
        self.request = request
