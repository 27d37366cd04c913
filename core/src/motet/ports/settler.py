"""Carrying out settlements: what happened to a delivery, written, propagated and acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from motet.outcome import Outcome
from motet.ports.transport import Delivery
from motet.program import Conflict, Op

__all__ = ["Entry", "Reply", "Settlement", "Settler"]


class Settlement(msgspec.Struct, frozen=True):
    """What a worker found out about one delivery (C8). The program that follows from it is derived by the pure core."""

    run: str
    segment: str
    node: int
    attempt: int
    outcome: Outcome | None
    release: str = ""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One thing to settle. A submit has no delivery and no settlement, only a program."""

    program: Sequence[Op]
    delivery: Delivery | None = None
    settlement: Settlement | None = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What became of an entry. With conflicts nothing was acknowledged: advance again from what is stored."""

    conflicts: Sequence[Conflict] = ()
    lost: bool = False


DONE = Reply()


class Settler(Protocol):
    """Settles batches.

    P1. The ops take effect in their order; the delivery is acknowledged last, and only when there was no conflict.
    P2. Settling the same entry twice changes nothing the second time.
    P3. A conflict ends its branch only, and is answered.
    P4. An entry whose delivery is held by somebody else by now has no effect at all and is answered as lost, where the
        capability `atomic` is declared.
    P5. With the capability `atomic` an entry is applied whole or not at all, whenever the process dies.
    P6. Entries are independent: one that fails does not undo the others, which are carried out before it is raised.
    P7. What a settlement published is as durable as by `publish` when `settle` returns.
    P9. The locks of a settlement's `release` are let go with its acknowledgement, and kept when there was a conflict.
    P10. A program may hold any op, nested 16 barriers deep, and 1,000 parcels.
    P11. `Retry` parks an attempt once, whoever settles it how often (H1).

    P8 was a rule for callers: see `settle`.
    """

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        """Carry the entries out.

        A backend may answer "accepted" before it is decided who wins: no caller uses the winner's value after this.
        """
        ...
