"""One walk through a plan: what nodes that end and nodes that start do to a run, as ops."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import msgspec

from motet.canvas.plan import FANOUT, Callback, Chain, Group, Leaf, Node, Part, Plan, Recover, page_key, span
from motet.canvas.records import (
    ROOT,
    barrier_key,
    closed_key,
    let_go,
    only,
    outcome_key,
    parcel_id,
    single,
)
from motet.message import VERSION, Key, Message, Order, Parcel, Place, Record, Ref, State, pack
from motet.options import CONTROL, Lane
from motet.program import UP, Arrive, Do, Flag, Guard, Once, Op, Open, Publish, Put

__all__ = ["NO_INPUT", "PENDING", "Fed", "Flow", "dispatch"]

DIRECT = 32
"""A group of at most so many leaves is started by the settlement that reaches it; a wider one by a message."""
BY_VALUE = 64 * 1024
"""Inputs of a group travel by value as long as all of them together stay below this (H2)."""
NESTED = 16
"""After so many barriers that one outcome may complete, a message carries on."""
INLINE = 16 * 1024
PENDING = timedelta(hours=1)
"""After so long a run whose start was never published is swept."""


class Fed(msgspec.Struct, frozen=True, gc=False):
    """An input: its bytes, where it can be read, or both."""

    value: bytes | None = None
    source: Ref | None = None

    def shared_by(self, members: int) -> Fed:
        """Return the form that so many messages may carry."""
        if self.value is not None and self.source is not None and len(self.value) * members > BY_VALUE:
            return Fed(source=self.source)
        return self


NO_INPUT = Fed()
NIL = b"\xc0"
EMPTY = b"\x90"


def fed_with(fed: Fed) -> Fed:
    """A value, seen from outside: an empty chain that was given nothing hands on nothing, but its value is None."""
    return Fed(NIL) if fed == NO_INPUT else fed


Decided: TypeAlias = tuple[Place, State, Fed]
Next: TypeAlias = tuple[Place, Fed]


class Flow:
    """One walk through a plan; `Decided` and `Next` alternate until nothing more happens at once.

    `timed` says that an op holds a time that depends on the very moment. The sweep's depends on the second only, so
    that what happens when a barrier completes is worked out once a second, and not again for each of its members.
    """

    def __init__(self, plan: Plan, now: datetime) -> None:
        self.plan = plan
        self.moment = now
        self.timed: bool = False
        self.depth: int = 0

    @property
    def now(self) -> datetime:
        """The moment of the walk."""
        self.timed = True
        return self.moment

    @property
    def second(self) -> datetime:
        """The second in which that falls."""
        return self.moment.replace(microsecond=0)

    def after(self, seconds: float) -> datetime | None:
        """When a wait that begins now is over; None when there is none."""
        return self.now + timedelta(seconds=seconds) if seconds > 0 else None

    def run(self, ops: list[Op], step: Decided | None) -> None:
        """Leave decided nodes and enter the next ones; a loop, because a chain may hold 5,000 empty groups."""
        while step is not None:
            following = self.leave(ops, *step)
            step = self.enter(ops, *following) if following else None

    def begin(self, segment: str, fed: Fed) -> list[Op]:
        """Enter the root of a segment."""
        ops: list[Op] = []
        self.run(ops, self.enter(ops, Place(segment, 0), fed))
        return ops

    def fed_by(self, place: Place, record: Record) -> Fed:
        """Say how the outcome of a node is handed on: small values as they are, the rest by reference."""
        source = record.source or Ref(self.plan.run, place.segment, place.number)
        if record.error is not None:
            error = pack(record.error)
            return Fed(error if len(error) <= INLINE else None, source)
        return Fed(record.value, source)

    def once(self, place: Place, record: Record) -> Once:
        """Write an outcome; the root of a single call expires by itself, everything else is swept."""
        if self.plan.node(place).up >= 0:
            return Once(outcome_key(self.plan.run, place), pack(record))
        header = self.plan.header(place.segment)
        is_root = header.parent is None
        if is_root and single(self.plan) is not None:
            return only(self.plan.run, header, record)
        if is_root and header.discard and record.value is not None:
            record = Record(record.state, at=record.at)
        return Once(outcome_key(self.plan.run, place), pack(record), None, is_root)

    def closed(self, place: Place, *, itself: bool = False) -> tuple[Key, ...]:
        """Name the marks that would stop this node: those of every scope around it."""
        first = place if itself else self.plan.up(place)
        if first is None:
            return ()
        keys = self.plan.marks.get(first)
        if keys is None:
            around = (first, *self.plan.above(first))
            keys = self.plan.marks[first] = tuple(closed_key(self.plan.run, outer) for outer in around)
        return keys

    def guard(self, ops: list[Op], place: Place, *, itself: bool = False) -> None:
        """Stop here if a scope around the node has been closed."""
        if keys := self.closed(place, itself=itself):
            ops.append(Guard(keys))

    # Leaving: a decided node tells what is around it.

    def leave(self, ops: list[Op], place: Place, state: State, fed: Fed) -> Next | None:
        """Fire callbacks, then walk outwards to the next node to start, or to a barrier, or to the end of the run."""
        while True:
            node = self.plan.node(place)
            self.call_back(ops, node, state, fed)
            outside = self.plan.up(place)
            if outside is None:
                self.end(ops)
                return None
            outer = self.plan.node(outside)
            match outer:
                case Group() | Part():
                    ok, err = self.completions(outside)
                    key = barrier_key(self.plan.run, outside)
                    ops.append(Arrive(key, node.slot, int(state != State.OK), ok, err))
                    return None
                case Chain(count=count) if state == State.OK and node.slot + 1 < count:
                    return Place(place.segment, place.number + span(node)), fed
                case Recover() if state == State.ERR and node.slot == 0:
                    return Place(place.segment, place.number + span(node)), fed
                case Leaf():
                    fed = self.kept(place, state, fed)
                case _:
                    pass
            ops.append(self.once(outside, self.passed_on(state, fed, place)))
            place = outside

    def kept(self, place: Place, state: State, fed: Fed) -> Fed:
        """The value of a spliced leaf: that of its replacement, or its own when it only waited for children."""
        if state != State.OK:
            return fed
        kept = self.plan.header(place.segment).kept
        return fed_with(fed) if kept is None else Fed(kept, None)

    def passed_on(self, state: State, fed: Fed, inner: Place) -> Record:
        """The record of a node whose outcome is that of one inside it: by reference, whatever its size."""
        if fed.source is None and fed.value is not None:
            return Record(state, fed.value)
        return Record(state, source=Ref(self.plan.run, inner.segment, inner.number))

    def completions(self, place: Place) -> tuple[Sequence[Op], Sequence[Op]]:
        """What happens when a barrier completes, well or not; shared, so that d nested groups give 2 d branches."""
        key = place, self.depth
        if (known := self.plan.completions.get(key)) is not None:
            ok, err, second, moment = known
            if second == self.second and moment in (None, self.moment):
                self.timed = self.timed or moment is not None
                return ok, err
        before, self.timed = self.timed, False
        ok, err = self.completed(place, State.OK), self.completed(place, State.ERR)
        self.plan.completions[key] = ok, err, self.second, self.moment if self.timed else None
        self.timed = self.timed or before
        return ok, err

    def completed(self, place: Place, state: State) -> list[Op]:
        ops: list[Op] = []
        node = self.plan.node(place)
        if isinstance(node, Part):
            outside = self.plan.up(place)
            assert outside is not None
            ok, err = self.completions(outside)
            ops.append(Arrive(barrier_key(self.plan.run, outside), node.slot, UP, ok, err))
            return ops
        fed = Fed(source=Ref(self.plan.run, place.segment, place.number))
        ops.append(self.once(place, Record(state, source=fed.source)))
        if self.depth >= NESTED:
            ops.append(Publish((self.order(Order.RESUME, place),)))
        else:
            self.depth += 1
            self.run(ops, (place, state, fed))
            self.depth -= 1
        if isinstance(node, Group) and node.fast and state == State.ERR:
            ops.append(Do(self.shut(place)))
        return ops

    def shut(self, place: Place) -> list[Op]:
        """Close a scope: no settlement continues inside, and workers drop what is queued of it."""
        last = place.number + span(self.plan.node(place)) - 1
        return [
            Put(closed_key(self.plan.run, place), b""),
            Flag(self.plan.run, place.segment, place.number, last),
        ]

    def call_back(self, ops: list[Op], node: Node, state: State, fed: Fed) -> None:
        """Start the callbacks of a scope, before the parent is told; each is a run of its own (H4)."""
        if node.scope is None or state == State.CANCELLED:
            return
        fed = fed_with(fed)
        for callback in node.scope.on_success if state == State.OK else node.scope.on_failure:
            if fed.value is None:
                # The input is a record of this run: its sweep waits until the callback's run has ended.
                ops.append(Put(Key(self.plan.run, f"k.{callback.run}"), b""))
            ops.append(Do(self.callback(callback, fed)))

    def callback(self, callback: Callback, fed: Fed) -> list[Op]:
        if fed.value is not None:
            fed = Fed(fed.value)
        plan = Plan(callback.run)
        for number, raw in enumerate(callback.pages):
            plan.add("", number, raw)
        flow = Flow(plan, self.moment)
        if callback.plain is not None:
            ops = flow.begin("", fed)
            self.timed = self.timed or flow.timed
            return ops
        return dispatch(plan, callback.pages, (), self.second, fed)

    def end(self, ops: list[Op]) -> None:
        """The root is decided: let go of the run that this one read from, and have the records swept in time."""
        header = self.plan.header("")
        ops += let_go(self.plan.run, header)
        if single(self.plan) is None:
            due = self.second + timedelta(seconds=header.ttl + 1)
            ops.append(Publish((self.order(Order.SWEEP, Place("", 0), due=due),)))

    # Entering: a node starts.

    def enter(self, ops: list[Op], place: Place, fed: Fed) -> Decided | None:
        """Start a node; return it when there is nothing to wait for."""
        node = self.plan.node(place)
        while True:
            fed = NO_INPUT if node.drop else fed
            if node.scope is not None and node.scope.within is not None:
                due = self.after(node.scope.within)
                ops.append(Publish((self.order(Order.TIMEOUT, place, due=due),)))
            match node:
                case Leaf():
                    ops.append(Publish((self.call(place, node, fed),)))
                    return None
                case Part():
                    ops.append(Publish((self.order(Order.EXPAND, place, fed),)))
                    return None
                case Group():
                    return self.enter_group(ops, place, node, fed)
                case Chain(count=0):
                    # It hands on what it was given, be it nothing; its own value is then None.
                    value = NIL if fed == NO_INPUT else fed.value
                    ops.append(self.once(place, Record(State.OK, value, None if value else fed.source)))
                    return place, State.OK, fed
                case Chain() | Recover():
                    pass
            place = Place(place.segment, place.number + 1)
            node = self.plan.node(place)

    def enter_group(self, ops: list[Op], place: Place, node: Group, fed: Fed) -> Decided | None:
        if node.members == 0:
            ops.append(self.once(place, Record(State.OK, EMPTY)))
            return place, State.OK, Fed(EMPTY)
        if node.span <= DIRECT:
            self.open(ops, place, node, fed)
        else:
            ops.append(Publish((self.order(Order.EXPAND, place, fed),)))
        return None

    def opening(self, place: Place, node: Group | Part) -> Open:
        """What makes the barrier of a group, or of a part of one."""
        allowed = node.max_failed if isinstance(node, Group) else 0
        return Open(barrier_key(self.plan.run, place), node.count, allowed, node.fast)

    def open(self, ops: list[Op], place: Place, node: Node, fed: Fed) -> None:
        """Open a barrier, then start its members; a member that is decided at once arrives at once."""
        assert isinstance(node, Group | Part)
        ops.append(self.opening(place, node))
        fed = fed.shared_by(node.members if isinstance(node, Group) else FANOUT)
        first = node.first if isinstance(node, Part) else 0
        leaves: list[Parcel] = []
        for number, (child, below) in enumerate(self.plan.children(place, node)):
            later = node.stagger * (first + number)
            if isinstance(below, Leaf) and below.scope is None:
                leaves.append(self.call(child, below, NO_INPUT if below.drop else fed, later))
                continue
            branch: list[Op] = []
            inner = (
                Flow(self.plan, self.now + timedelta(seconds=later)) if later and not isinstance(below, Part) else self
            )
            inner.run(branch, inner.enter(branch, child, fed))
            ops.append(Do(branch))
        if leaves:
            ops.append(Publish(tuple(leaves)))

    # Messages.

    def call(self, place: Place, leaf: Leaf, fed: Fed, later: float = 0.0) -> Parcel:
        """The message that runs a leaf."""
        profile = self.plan.profile(place, leaf)
        inline = self.plan.inline.get(place.segment, b"")
        fed = NO_INPUT if leaf.feed is None else fed
        source = None if fed.value is not None else fed.source
        message = Message(VERSION, Order.RUN, self.plan.run, place.segment, place.number, 1, fed.value, source, inline)
        wait = profile.delay + later
        return Parcel(parcel_id(message), profile.lane, pack(message), self.after(wait) if wait else None)

    def order(self, order: Order, place: Place, fed: Fed = NO_INPUT, due: datetime | None = None) -> Parcel:
        """An internal message about a node."""
        inline = self.plan.inline.get(place.segment, b"")
        message = Message(VERSION, order, self.plan.run, place.segment, place.number, 1, fed.value, fed.source, inline)
        return self.parcel(message, CONTROL, due)

    def parcel(self, message: Message, lane: Lane, due: datetime | None) -> Parcel:
        return Parcel(parcel_id(message), lane, pack(message), due)


def dispatch(
    plan: Plan,
    pages: Sequence[bytes],
    values: Sequence[tuple[str, bytes]],
    now: datetime,
    fed: Fed = NO_INPUT,
) -> list[Op]:
    """Submit a run from inside a settlement; `plan` knows its first page.

    A plan that does not travel with the message is stored first, and a janitor looks after it: what is around the node
    may be closed before a settlement that broke off here is repeated.
    """
    flow = Flow(plan, now)
    begun = Publish((flow.order(Order.START, ROOT, fed),))
    if "" in plan.inline:
        return [begun]
    puts = [Put(Key(plan.run, name), value) for name, value in values]
    puts += [Put(page_key(plan.run, "", number), raw) for number, raw in enumerate(pages)]
    return [Publish((flow.order(Order.JANITOR, ROOT, due=now + PENDING),)), *puts, begun]
