"""The engine: what an outcome does to its run. One pure step, `(plan, node, outcome) -> settlement program`.

The order of the ops is the order of effects: record, arrive, publish the continuation. Whatever ends a scope early
(cancel, time limit, fail_fast) closes it last, after its own continuation is out, so that a crash half-way is repeated
rather than mistaken for done.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from motet.canvas.flow import NO_INPUT, PENDING, Fed, Flow, dispatch
from motet.canvas.plan import Group, Leaf, Part, Plan, page_key
from motet.canvas.records import (
    INPUT,
    ROOT,
    RUN,
    RunInfo,
    attempt_key,
    claim_key,
    let_go,
    lifetime,
    only,
    outcome_key,
    single,
    splice_key,
)
from motet.message import Key, Message, Order, Parcel, Place, Record, Ref, pack
from motet.outcome import Replaced
from motet.program import Do, Guard, Once, Op, Publish, Put, Retry

__all__ = [
    "NO_INPUT",
    "PENDING",
    "Fed",
    "again",
    "begin",
    "call",
    "called",
    "close",
    "decided",
    "dispatch",
    "expand",
    "later",
    "launch",
    "overtaken",
    "resume",
    "spliced",
]


def launch(
    plan: Plan, now: datetime, info: RunInfo, *, page: bytes | None = None, due: datetime | None = None
) -> list[Op]:
    """Accept a run: its record, then its first messages.

    With its only `page` given, that is stored and the first nodes start at once. Otherwise the pages are there
    already, or travel with the message that asks a worker to begin.
    """
    flow = Flow(plan, now)
    ops: list[Op] = [Once(claim_key(plan.run), pack(info))] if info.given else []
    ops.append(Once(Key(plan.run, RUN), pack(info)))
    if page is not None:
        ops.append(Put(page_key(plan.run, "", 0), page))
        if due is None:
            return ops + flow.begin("", NO_INPUT)
    # The plan travels along when it is small. Of two clients that submit the same id, one may be late with its message.
    begun = Flow(plan, now).order(Order.START, ROOT, due=due)
    return [*ops, Publish((msgspec.structs.replace(begun, suspect=info.given),))]


def begin(plan: Plan, message: Message, now: datetime) -> list[Op]:
    """Begin a run as its start message says, unless it was closed before."""
    flow = Flow(plan, now)
    ops: list[Op] = []
    if message.plan:
        ops.append(Put(page_key(plan.run, "", 0), message.plan))
    fed = Fed(message.value, message.source)
    if fed.value is not None:
        # The whole run may refer to its input later: keep it with the run.
        ops.append(Put(Key(plan.run, INPUT), fed.value))
        fed = Fed(fed.value, Ref(plan.run, stored=INPUT))
    flow.guard(ops, Place("", 0), itself=True)
    return ops + flow.begin("", fed)


def call(plan: Plan, now: datetime) -> list[Op]:
    """Send a run of one call, for which no record is kept before its outcome."""
    return [Publish((called(plan, now),))]


def called(plan: Plan, now: datetime) -> Parcel:
    """The only message of such a run."""
    root = Place("", 0)
    leaf = plan.node(root)
    assert isinstance(leaf, Leaf)
    return Flow(plan, now).call(root, leaf, NO_INPUT)


def decided(plan: Plan, place: Place, record: Record, now: datetime, spawned: Sequence[Op] = ()) -> list[Op]:
    """Say what a node's outcome does: record it, then tell its scopes and whatever waits for it."""
    if place == ROOT and (header := single(plan)) is not None:
        return [only(plan.run, header, record), *spawned, *let_go(plan.run, header)]
    flow = Flow(plan, now)
    ops: list[Op] = [flow.once(place, record)]
    flow.guard(ops, place)
    ops += spawned
    flow.run(ops, (place, record.state, flow.fed_by(place, record)))
    return ops


def later(ops: Sequence[Op], due: datetime) -> list[Op]:
    """Put off the first messages of a single call; its own delay, if any, counts from now."""
    return [
        Publish(tuple(msgspec.structs.replace(each, due=due) for each in op.parcels)) if isinstance(op, Publish) else op
        for op in ops
    ]


def overtaken(plan: Plan, place: Place, record: Record, now: datetime, spawned: Sequence[Op] = ()) -> list[Op]:
    """Go on from a record that somebody else wrote first.

    Of a run's root it may be the execution of a call whose place another term took. Such a one knows of no records but
    its own, which expires: then nobody else has the others swept.
    """
    ops = decided(plan, place, record, now, spawned)
    if place != ROOT or single(plan) is not None:
        return ops
    ended: list[Op] = []
    Flow(plan, now).end(ended)
    return [Do(ops), Do(ended)]  # two branches: the first ends at a record that is there already


def resume(plan: Plan, place: Place, record: Record, now: datetime) -> list[Op]:
    """Carry on from a node that is decided: `decided` stops at 16 barriers deep and leaves the rest to this."""
    flow = Flow(plan, now)
    ops: list[Op] = []
    flow.guard(ops, place)
    flow.run(ops, (place, record.state, flow.fed_by(place, record)))
    return ops


def close(plan: Plan, place: Place, record: Record, now: datetime) -> list[Op]:
    """End a node early: cancelled, or out of time. Whatever is queued or running in it continues nothing.

    A node may be cancelled before what is around it has begun: its groups must be open for it to arrive.
    """
    flow = Flow(plan, now)
    around = [(outer, plan.node(outer)) for outer in plan.above(place)]
    opened = [flow.opening(outer, node) for outer, node in around if isinstance(node, Group | Part)]
    return [*opened, *decided(plan, place, record, now), *flow.shut(place)]


def expand(plan: Plan, place: Place, fed: Fed, now: datetime) -> list[Op]:
    """Open the barrier of a group, or of a part of one, and start what is below."""
    ops: list[Op] = []
    flow = Flow(plan, now)
    flow.guard(ops, place, itself=True)
    flow.open(ops, place, plan.node(place), fed)
    return ops


def spliced(
    plan: Plan,
    place: Place,
    replaced: Replaced,
    now: datetime,
    spawned: Sequence[Op] = (),
    *,
    suspect: bool = False,
) -> list[Op]:
    """Put another term in a leaf's place: its pages first, then the record that names it, then its first messages.

    Nothing takes the place of a leaf whose outcome is recorded. Who is `suspect` may be the only one left to tell
    of that outcome: a message sees to it.
    """
    run = plan.run
    for number, raw in enumerate(replaced.pages):
        plan.add(replaced.segment, number, raw)
    ops = keep_whole(plan, now)
    ops += [Put(Key(run, name), value) for name, value in replaced.values]
    ops += [Put(page_key(run, replaced.segment, number), raw) for number, raw in enumerate(replaced.pages)]
    named = Once(splice_key(run, place), replaced.segment.encode())
    entered = enter_splice(plan, place, replaced.segment, now, spawned)
    ops.append(Do([Guard((outcome_key(run, place),)), named, *entered]))
    if suspect:
        again = Flow(plan, now).order(Order.RESUME, place)
        ops.append(Publish((msgspec.structs.replace(again, suspect=True),)))
    return ops


def keep_whole(plan: Plan, now: datetime) -> list[Op]:
    """Keep the plan of a run that was a single call until now: more than one record is swept as a whole.

    A janitor removes it if the call comes to something else in the end, because this settlement broke off.
    """
    header = single(plan)
    if header is None:
        return []
    page = msgspec.structs.replace(plan.page("", 0), header=msgspec.structs.replace(header, given=True))
    raw = pack(page)
    plan.add("", 0, raw)
    due = now + PENDING + timedelta(seconds=header.ttl)
    janitor = Flow(plan, now).order(Order.JANITOR, ROOT, due=due)
    return [Publish((janitor,)), Put(page_key(plan.run, "", 0), raw)]


def enter_splice(plan: Plan, place: Place, segment: str, now: datetime, spawned: Sequence[Op] = ()) -> list[Op]:
    """Start the term that a leaf's splice record names."""
    flow = Flow(plan, now)
    ops: list[Op] = []
    flow.guard(ops, place, itself=True)
    return [*ops, *spawned, *flow.begin(segment, NO_INPUT)]


def again(plan: Plan, place: Place, message: Message, due: datetime, now: datetime) -> list[Op]:
    """Park the next attempt of a leaf, once, unless it is decided or out of scope by now.

    The mark of it is swept with its run; a single call is not swept, so that there the mark expires by itself.
    """
    flow = Flow(plan, now)
    attempt = message.attempt + 1
    leaf = plan.node(place)
    assert isinstance(leaf, Leaf)
    following = msgspec.structs.replace(message, attempt=attempt)
    parcel = flow.parcel(following, plan.profile(place, leaf).lane, due if due > now else None)
    keys = (outcome_key(plan.run, place), *flow.closed(place))
    header = single(plan) if place == ROOT else None
    ttl = None if header is None else max(due - now, timedelta()) + lifetime(header.ttl)
    return [Guard(keys), Retry(attempt_key(plan.run, place, attempt), parcel, ttl)]
