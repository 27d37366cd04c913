"""What goes wrong: the kinds of faults, how likely each is in a schedule, and how often each has happened where."""

from __future__ import annotations

import enum
import random
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["ALL", "BATCHES", "IDLE", "Fault", "Weather", "possible"]


class Fault(enum.StrEnum):
    """What may happen at a call to a port."""

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    TORN = "crash half-way"
    REFUSED = "refused"
    LOST_REPLY = "reply lost"
    PARTIAL = "half done, then refused"
    DELAY = "delay"
    PAUSE = "pause past the lease"
    LEASE_LOSS = "lease lost"
    DUPLICATE = "duplicate"
    RESTART = "restart of all"


BATCHES = frozenset({"publish", "park", "settle", "put", "put_once", "flag"})
"""Calls that carry several things, of which a broker without transactions may do some."""
IDLE = frozenset({"receive", "flags", "extend", "locks.renew"})
"""Calls that a worker makes all the time: here a fault is rarer, or little else would ever fail."""

ALL = tuple(Fault)
LONGEST = 0.7
"""Seconds: what takes longer is a fault, and excuses a lease that ran out."""


@dataclass
class Weather:
    """The faults of one schedule. `calm` ends them."""

    rng: random.Random
    rate: float = 0.0
    weights: dict[Fault, float] = field(default_factory=dict[Fault, float])
    quick: float = 0.5
    """Share of calls that take no time at all."""
    slowness: float = 0.01
    calm: bool = False
    budget: int = 40
    met: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    forced: dict[int, Fault] = field(default_factory=dict[int, Fault])
    """Faults at the n-th call, for those who want every point of one workflow."""
    calls: int = 0

    @classmethod
    def drawn(cls, rng: random.Random) -> Weather:
        """Draw the weather of a schedule: some kinds of faults, each with a weight of its own."""
        kinds = [fault for fault in ALL if rng.random() < 0.6]
        weights = {fault: rng.random() for fault in kinds}
        if Fault.RESTART in weights:
            weights[Fault.RESTART] *= 0.2
        rate = rng.choice([0.0, 0.01, 0.03, 0.06, 0.12]) if kinds else 0.0
        return cls(rng, rate, weights, rng.choice([0.3, 0.7, 0.95]), rng.choice([0.001, 0.01, 0.05, 0.2]))

    def draw(self, op: str, role: str) -> Fault | None:
        """Say what happens at this call, if anything does."""
        self.calls += 1
        if self.forced:
            fault = self.forced.get(self.calls)
        elif self.calm or self.budget <= 0 or not self.rate:
            return None
        else:
            if self.rng.random() >= (self.rate * 0.1 if op in IDLE else self.rate):
                return None
            fault = self.rng.choices(list(self.weights), list(self.weights.values()))[0]
        if fault is None or not possible(fault, op):
            return None
        self.budget -= 1
        self.met[f"{role}.{op}", fault] += 1
        return fault

    def wait(self) -> float:
        """Say how long half a call takes."""
        return 0.0 if self.rng.random() < self.quick else min(LONGEST, self.rng.expovariate(1 / self.slowness))


def possible(fault: Fault, op: str) -> bool:
    """Say whether a fault makes sense at a call."""
    if fault in (Fault.TORN, Fault.PARTIAL):
        return op in BATCHES
    if op == "extend":
        return fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.REFUSED, Fault.LOST_REPLY)
    return True
