"""Who shares locks and schedules, and what the two ports owe them: each has a model of a few lines to be judged by.

Lock users and firers talk to ports L and C as workers do, under the same faults.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Protocol

from virtual import START

from motet import Motet, Term
from motet.canvas import advance
from motet.canvas.compile import Origin, compile_term
from motet.canvas.plan import Plan
from motet.errors import Unavailable
from motet.memory.holders import Holders
from motet.message import Parcel
from motet.ports import Busy, Clock, Grant, Lock, Schedule

__all__ = ["WatchedHolders", "fire", "fired", "use_locks"]

LOCKS = (
    Lock("mutex", "mutex"),
    Lock("book", "read"),
    Lock("book", "write"),
    Lock("pool", "semaphore", 2),
    Lock("tap", "rate", 2, timedelta(seconds=1)),
)
EVERY = 0.7
"""Seconds between two due times of a schedule."""


class Model:
    """What is held, as the clauses say: who, since when a use, until when a hold."""

    def __init__(self) -> None:
        self.holds: dict[str, dict[str, tuple[str, float]]] = {}
        self.uses: dict[str, dict[str, float]] = {}
        self.fence = 0

    def may(self, lock: Lock, owner: str, now: float) -> bool:
        """Whether a lock can be had (L3, L5, L6, L7)."""
        if lock.kind == "rate":
            uses = self.uses.get(lock.name, {})
            recent = [at for each, at in uses.items() if each != owner and at > now - lock.window.total_seconds()]
            return owner in uses or len(recent) < lock.limit
        holds = self.holds.get(lock.name, {}).items()
        others = [kind for each, (kind, until) in holds if each != owner and until > now]
        if lock.kind == "read":
            return "write" not in others
        return len(others) < (lock.limit if lock.kind == "semaphore" else 1)

    def take(self, locks: Sequence[Lock], owner: str, now: float, lease: float) -> None:
        for lock in locks:
            if lock.kind == "rate":
                self.uses.setdefault(lock.name, {}).setdefault(owner, now)
            else:
                self.holds.setdefault(lock.name, {})[owner] = lock.kind, now + lease

    def renew(self, owner: str, now: float, lease: float) -> None:
        for holds in self.holds.values():
            if owner in holds and holds[owner][1] > now:
                holds[owner] = holds[owner][0], now + lease

    def release(self, owner: str) -> None:
        for holds in self.holds.values():
            holds.pop(owner, None)


class Judge(Protocol):
    """Who hears of violations."""

    def wrong(self, invariant: str, text: str) -> None:
        """Note a violation."""
        ...


class WatchedHolders(Holders):
    """Locks whose every answer is compared with the model's."""

    def __init__(self, judge: Judge, clock: Clock) -> None:
        super().__init__(clock)
        self.judge = judge
        self.model = Model()
        self.granted: dict[str, int] = {}

    def acquire(self, locks: Sequence[Lock], name: str, lease: timedelta) -> Grant | Busy:
        now = self.clock.monotonic()
        answer = super().acquire(locks, name, lease)
        expected = all(self.model.may(lock, name, now) for lock in locks)
        if expected != isinstance(answer, Grant):
            self.judge.wrong("L6", f"{name} asked for {[lock.name for lock in locks]} and was told {answer}")
        if isinstance(answer, Grant):
            self.model.take(locks, name, now, lease.total_seconds())
            if answer.fence < self.granted.get(name, self.model.fence + 1):
                self.judge.wrong("L2", f"{name} was granted fence {answer.fence}, after {self.model.fence}")
            self.granted[name] = answer.fence
            self.model.fence = max(self.model.fence, answer.fence)
        return answer

    def renew(self, name: str, lease: timedelta) -> bool:
        self.model.renew(name, self.clock.monotonic(), lease.total_seconds())
        return super().renew(name, lease)

    def release(self, name: str) -> None:
        self.model.release(name)
        super().release(name)


async def use_locks(edge: Any, name: str, rng: random.Random, lease: float) -> None:
    """Take some locks, hold them for a while, let go; again and again."""
    for turn in range(rng.randrange(1, 5)):
        owner = f"{name}:{turn}"
        chosen = rng.sample(LOCKS, rng.randrange(1, 3))
        locks = chosen if len({lock.name for lock in chosen}) == len(chosen) else chosen[:1]
        for _ in range(20):
            if await granted(edge, locks, owner, lease):
                await hold(edge, owner, rng.choice([0.0, 0.2, lease]), lease)
                break
            await asyncio.sleep(rng.random() / 2)


async def granted(edge: Any, locks: Sequence[Lock], owner: str, lease: float) -> bool:
    try:
        return isinstance(await edge.locks.acquire(locks, owner, timedelta(seconds=lease)), Grant)
    except Unavailable:
        return False


async def hold(edge: Any, owner: str, seconds: float, lease: float) -> None:
    """Hold what was granted, renewing as a worker does; whoever is told that it was lost stops."""
    while seconds > 0:
        await asyncio.sleep(min(seconds, lease / 3))
        seconds -= lease / 3
        with suppress(Unavailable):
            if seconds > 0 and not await edge.locks.renew(owner, timedelta(seconds=lease)):
                return
    with suppress(Unavailable):  # then its lease runs out
        await edge.locks.release(owner)


# --- schedules --------------------------------------------------------------------------------------------------------


def fired(name: str, number: int) -> str:
    """The run that a schedule starts at its n-th due time."""
    return f"{name}-{number}"


async def fire(edge: Any, one: Motet, name: str, terms: Sequence[Term[Any, Any]]) -> None:
    """Fire a schedule whenever it is due, as every worker may, until it has come to its end."""
    while True:
        try:
            (known,) = await edge.schedules.get([name])
            if known is None:
                await edge.schedules.save(Schedule(name, START + timedelta(seconds=EVERY)))
            elif known.due is None:
                return
            for each in await edge.schedules.due(one.clock.now(), 10):
                if each.name == name:
                    await fire_once(edge, one, each, terms)
        except Unavailable:
            pass
        await asyncio.sleep(0.3)


async def fire_once(edge: Any, one: Motet, known: Schedule, terms: Sequence[Term[Any, Any]]) -> None:
    assert known.due is not None
    number = round((known.due - START).total_seconds() / EVERY) - 1
    following: datetime | None = START + timedelta(seconds=EVERY * (number + 2))
    if number + 1 >= len(terms):
        following = None
    await edge.schedules.fire(
        known.name, known.due, following, [message(one, fired(known.name, number), terms[number])]
    )


def message(one: Motet, run: str, term: Term[Any, Any]) -> Parcel:
    """The message that a schedule sends: the same for each due time, whoever fires."""
    compiled = compile_term(term, Origin(run=run), one.registry, ttl=600.0)
    plan = Plan(run)
    plan.add("", 0, compiled.first.body, compiled.first.page)
    return advance.called(plan, one.clock.now())
