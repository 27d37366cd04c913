"""Settlers with one rule broken: a campaign that finds nothing wrong with them would prove nothing."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from motet.engine.ordered import OrderedSettler
from motet.ports import Entry, Reply
from motet.program import Arrive, Op

__all__ = ["MUTANTS", "settler"]


class AckFirst(OrderedSettler):
    """Acknowledges before it has recorded anything: a crash between the two loses the outcome."""

    async def settle_one(self, entry: Entry) -> Reply:
        if entry.delivery is not None:
            await self.transport.ack([entry.delivery])
        return await super().settle_one(msgspec.structs.replace(entry, delivery=None))


class EdgeTriggered(OrderedSettler):
    """Goes on behind a group at the arrival that fills it, and only then: one that is repeated goes nowhere."""

    async def apply(self, op: Op) -> Any:
        if isinstance(op, Arrive):
            (barrier,) = await self.store.barriers([op.key])
            if barrier is not None and op.slot in barrier.arrived:
                return None
        return await super().apply(op)


MUTANTS: dict[str, tuple[type[OrderedSettler], str, str]] = {
    "ack first": (AckFirst, "after_record", "chord"),
    "edge-triggered": (EdgeTriggered, "after_arrive", "steps"),
}
"""Each with the place where it shows, and the work that shows it."""


def settler() -> type[OrderedSettler]:
    """The settler of this process: the real one, unless `FAULTS_MUTANT` names another."""
    name = os.environ.get("FAULTS_MUTANT")
    return MUTANTS[name][0] if name else OrderedSettler
