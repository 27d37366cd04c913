"""The settlement program: what one settlement does to a backend, as data, and the one way to walk it.

A program is complete in advance, because continuations name their inputs by reference; the only decisions left to the
backend are a barrier's count and who wrote a record first. Every op may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

import msgspec

from motet.message import DeadLetter, Key, Parcel

__all__ = [
    "UP",
    "Arrival",
    "Arrive",
    "Bury",
    "Conflict",
    "Do",
    "Drop",
    "Flag",
    "Guard",
    "Once",
    "Op",
    "Open",
    "Publish",
    "Put",
    "Retry",
    "carry_out",
    "doubtful",
    "walk",
]

UP = -1
"""`Arrive.failed`: as many as failed in the barrier that this branch hangs from."""


class Once(msgspec.Struct, frozen=True, gc=False):
    """Write the record if there is none. `ends` says that it decides a run, so that waiters are woken."""

    key: Key
    value: bytes
    ttl: timedelta | None = None
    ends: bool = False


class Put(msgspec.Struct, frozen=True, gc=False):
    """Write the value; whoever writes under this key writes the same."""

    key: Key
    value: bytes
    ttl: timedelta | None = None


class Drop(msgspec.Struct, frozen=True, gc=False):
    """Forget the record, if it is there."""

    key: Key


class Open(msgspec.Struct, frozen=True, gc=False):
    """Create the barrier if there is none. `fast` decides it as soon as more than `max_failed` have failed."""

    key: Key
    size: int
    max_failed: int = 0
    fast: bool = False


class Arrive(msgspec.Struct, frozen=True):
    """Mark the slot, then test the barrier, whether or not the slot was marked before.

    An unknown barrier is closed: nothing is created and the branch ends.
    """

    key: Key
    slot: int
    failed: int
    then_ok: Sequence[Op] = ()
    then_err: Sequence[Op] = ()


class Guard(msgspec.Struct, frozen=True):
    """End the branch if any of these records exists: a scope around this node has been decided."""

    keys: tuple[Key, ...]


class Retry(msgspec.Struct, frozen=True):
    """Park the next attempt, once: `key` is the mark of (node, attempt)."""

    key: Key
    parcel: Parcel
    ttl: timedelta | None = None


class Publish(msgspec.Struct, frozen=True):
    """Hand over messages; those with a `due` time are parked until then."""

    parcels: tuple[Parcel, ...]


class Flag(msgspec.Struct, frozen=True, gc=False):
    """Tell every worker soon that this scope is cancelled, so that queued work of it is not started."""

    run: str
    segment: str
    first: int
    last: int


class Bury(msgspec.Struct, frozen=True):
    """Keep a message that is given up, unless a dead letter of that id is there."""

    letter: DeadLetter


class Do(msgspec.Struct, frozen=True):
    """A branch of its own: what ends it does not end the program around it."""

    ops: Sequence[Op]


Op: TypeAlias = Once | Put | Drop | Open | Arrive | Guard | Retry | Publish | Flag | Bury | Do


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """What a barrier says after an arrival."""

    size: int
    arrived: int
    failed: int
    max_failed: int = 0
    fast: bool = False


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """The record under `key` was written before, and says `stored`: advance again from that."""

    key: Key
    stored: bytes


Walk: TypeAlias = Generator[Op, Any, list[Conflict]]


def walk(ops: Sequence[Op], *, atomic: bool) -> Walk:
    """Yield each op that shall be carried out, in order, and take its answer by `send`.

    Answers: `Once` the bytes stored before, or None when it wrote; `Guard` whether a record exists; `Arrive` an
    `Arrival`, or None when closed. The others answer nothing. Returns the conflicts; only when there are none may
    the caller release locks and acknowledge.

    `atomic` says that a program is applied whole or not at all. Then a record that is there already, and equal, proves
    that its branch was applied. Otherwise the branch goes on, and what it publishes again is marked suspect.
    """
    conflicts: list[Conflict] = []
    yield from _branch(ops, 0, atomic, False, conflicts)
    return conflicts


def carry_out(ops: Sequence[Op], apply: Callable[[Op], Any]) -> list[Conflict]:
    """Walk a program whole, for a backend that answers each op at once; what `walk` says of answers holds.

    A program of one record, as most are, needs no generator: that is 1.5 us of 10.
    """
    if len(ops) == 1 and type(only := ops[0]) is Once:
        stored = apply(only)
        return [Conflict(only.key, stored)] if stored is not None and stored != only.value else []
    conflicts: list[Conflict] = []
    steps = _branch(ops, 0, True, False, conflicts)
    answer: Any = None
    while True:
        try:
            op = steps.send(answer)
        except StopIteration:
            return conflicts
        answer = apply(op)


def _branch(
    ops: Sequence[Op], up: int, atomic: bool, repeated: bool, conflicts: list[Conflict]
) -> Generator[Op, Any, None]:
    for op in ops:
        match op:
            case Once():
                stored = yield op
                if stored is None:
                    continue
                if stored != op.value:
                    conflicts.append(Conflict(op.key, stored))
                    return
                if atomic:
                    return
                repeated = True
            case Guard():
                if (yield op):
                    return
            case Arrive():
                counted = op if op.failed != UP else Arrive(op.key, op.slot, up, op.then_ok, op.then_err)
                arrival: Arrival | None = yield counted
                if arrival is None:
                    return
                yield from _branch(_chosen(op, arrival), arrival.failed, atomic, repeated, conflicts)
            case Publish() if repeated:
                yield _doubtful(op)
            case Do():
                yield from _branch(op.ops, up, atomic, repeated, conflicts)
            case _:
                yield op


def doubtful(ops: Sequence[Op]) -> list[Op]:
    """Mark everything that a program publishes as suspect: it may have been published before (C12)."""
    return [_doubtful(op) for op in ops]


def _doubtful(op: Op) -> Op:
    match op:
        case Publish():
            return Publish(tuple(msgspec.structs.replace(parcel, suspect=True) for parcel in op.parcels))
        case Do():
            return Do(doubtful(op.ops))
        case Arrive():
            return Arrive(op.key, op.slot, op.failed, doubtful(op.then_ok), doubtful(op.then_err))
        case _:
            return op


def _chosen(op: Arrive, arrival: Arrival) -> Sequence[Op]:
    """Pick the branch by the barrier's level, never by whether this arrival was the one that changed it."""
    failed = arrival.failed > arrival.max_failed
    if arrival.arrived >= arrival.size:
        return op.then_err if failed else op.then_ok
    return op.then_err if failed and arrival.fast else ()
