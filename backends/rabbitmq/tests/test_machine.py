"""The shard as a pure machine: any prefix of its log gives the same state, and what comes twice changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.message import Key
from motet.options import Lane
from motet.ports import Rule
from motet.program import Arrive, Once, Open, Publish, Put
from motet_rabbitmq import ops
from motet_rabbitmq.calls import Method
from motet_rabbitmq.feeds import Feeds
from motet_rabbitmq.holders import Holders, WireLock
from motet_rabbitmq.keys import Keys, WireAdmission
from motet_rabbitmq.ledger import Ledger
from motet_rabbitmq.letters import Held, LaneMessage, Letters
from motet_rabbitmq.machine import CONTROL, Layout, Machine, Settle
from motet_rabbitmq.roll import Roll
from motet_rabbitmq.runs import Runs
from motet_rabbitmq.state import Change
from motet_rabbitmq.wire import Asked, Status

LANE = Lane("q", "small", 1)
START = 1_700_000_000.0
SHORT = timedelta(seconds=1)


def layout(shards: int = 1) -> Layout:
    return Layout(shards, str, lambda index: f"shard.{index}")


def machine(index: int = 0, shards: int = 1) -> Machine:
    made = Machine(index, layout(shards))
    made.turn(START)
    made.taken_over("e")
    made.roll.enter([LANE])
    made.state.outputs.clear()
    return made


def asked(method: Method[Any, ..., Any], *arguments: Any) -> Asked:
    return Asked(method.name, msgspec.msgpack.encode(arguments))


def do(shard: Machine, method: Method[Any, ..., Any], *arguments: Any) -> Any:
    """Ask as an owner would, through bytes."""
    [reply] = shard.perform([asked(method, *arguments)])
    assert reply.status is Status.DONE, reply.value
    return method.answer(reply.value)


def parcel(name: str, *, due: float | None = None, body: bytes = b"body") -> ops.WireParcel:
    when = None if due is None else datetime.fromtimestamp(START + due, UTC)
    return ops.WireParcel(name, LANE, body, when)


def sent(shard: Machine) -> list[LaneMessage]:
    """Take the messages that left for lanes."""
    outputs, shard.state.outputs[:] = list(shard.state.outputs), []
    return [msgspec.msgpack.decode(each.body, type=LaneMessage) for each in outputs if each.queue == str(LANE)]


def rows(shard: Machine) -> dict[tuple[str, str, str], bytes]:
    return {
        (kind, first, second): msgspec.msgpack.encode(row)
        for kind, table in shard.state.tables.items()
        for first, of_first in table.rows.items()
        for second, row in of_first.items()
    }


names = st.sampled_from(["a:1", "a:2", "b:1", "c:1"])
runs = st.sampled_from(["a", "b", "c"])
keys = st.builds(Key, runs, st.sampled_from(["r", "o.0", "v"]))
ttls = st.sampled_from([None, SHORT])
calls: st.SearchStrategy[Asked] = st.one_of(
    st.builds(lambda key, ttl: asked(Runs.put_once, [ops.WireOnce(key, b"1", ttl)]), keys, ttls),
    st.builds(lambda key, ttl: asked(Runs.put, [ops.WirePut(key, b"2", ttl)]), keys, ttls),
    st.builds(lambda key: asked(Runs.drop, [key]), keys),
    st.builds(lambda key, ttl: asked(Runs.add, key, 2, ttl), keys, ttls),
    st.builds(lambda run: asked(Runs.open, [ops.WireOpen(Key(run, "b"), 3)]), runs),
    st.builds(lambda run, slot: asked(Runs.arrive, Key(run, "b"), slot, 1), runs, st.integers(0, 3)),
    st.builds(lambda run: asked(Runs.sweep, run, 2), runs),
    st.builds(lambda name, due: asked(Letters.publish, [parcel(name, due=due)]), names, st.sampled_from([None, 2.0])),
    st.builds(lambda name: asked(Letters.cancel, [name]), names),
    st.builds(lambda name, claim: asked(Letters.forget, [Held(name, claim, LANE)]), names, st.integers(0, 2)),
    st.builds(
        lambda name, claim: asked(Letters.give_back, [Held(name, claim, LANE, b"body")], SHORT),
        names,
        st.integers(0, 2),
    ),
    st.builds(
        lambda name, rule, key: asked(
            Keys.admit, [WireAdmission(key, rule, parcel(name), timedelta(seconds=3), "o.0", b"gone")]
        ),
        names,
        st.sampled_from(Rule),
        runs,
    ),
    st.builds(lambda lock, owner: asked(Holders.acquire, [WireLock(lock, "mutex")], owner, SHORT), runs, names),
    st.builds(lambda owner: asked(Holders.release, [owner]), names),
    st.just(asked(Feeds.emit, [b"event"])),
    st.builds(lambda queue, paused: asked(Roll.pause, queue, paused), runs, st.booleans()),
)
steps = st.lists(st.one_of(calls, st.sampled_from([0.5, 1.5])), max_size=40)


def claim_all(shard: Machine) -> None:
    for message in sent(shard):
        do(shard, Letters.claim, [(message.id, message.nonce, False)])


def history(log: Sequence[Asked | float]) -> tuple[Machine, list[list[Change]], list[dict[Any, bytes]]]:
    """Live through a log; return the deltas, and the state after each."""
    shard, now = machine(), START
    deltas, states = [shard.state.changes()], [rows(shard)]
    for step in log:
        if isinstance(step, float | int):
            now += step
            shard.turn(now)
            shard.tick()
        else:
            shard.turn(now)
            shard.perform([step])
        claim_all(shard)
        deltas.append(shard.state.changes())
        states.append(rows(shard))
    return shard, deltas, states


@given(steps)
@settings(max_examples=150, deadline=None)
def test_c2_replaying_any_prefix_of_the_log_gives_the_state_after_it_and_no_output(log: list[Asked | float]) -> None:
    _, deltas, states = history(log)
    replayed = Machine(0, layout())

    for delta, state in zip(deltas, states, strict=True):
        replayed.state.load(delta)

        assert rows(replayed) == state
        assert not replayed.state.outputs


@given(steps, st.data())
@settings(max_examples=150, deadline=None)
def test_c4_what_the_ledger_holds_is_the_state_whatever_was_folded(
    log: list[Asked | float], data: st.DataObject
) -> None:
    shard, deltas, _ = history(log)
    ledger, queue, tag = Ledger(), dict[int, list[Change]](), 0
    live = Machine(0, layout())

    def deliver(changes: list[Change]) -> None:
        nonlocal tag
        tag += 1
        queue[tag] = changes
        for each in ledger.hold(tag, changes, len(changes), START):
            del queue[each]

    for delta in deltas:
        live.state.load(delta)
        deliver(delta)
        if len(ledger) and data.draw(st.booleans()):
            tags, kept = ledger.fold(data.draw(st.integers(1, len(ledger))))
            for each in tags:
                del queue[each]
            deliver([live.state.change(name) for name in kept])

    replayed = Machine(0, layout())
    for held in sorted(queue):
        replayed.state.load(queue[held])
    assert rows(replayed) == rows(shard)
    assert set(queue) == set(ledger.held)


@given(steps)
@settings(max_examples=100, deadline=None)
def test_live_bytes_are_counted_alike_by_those_who_lived_it_and_those_who_replay(log: list[Asked | float]) -> None:
    shard, deltas, _ = history(log)
    replayed = Machine(0, layout())

    for delta in deltas:
        replayed.state.load(delta)

    assert replayed.state.live == shard.state.live
    assert (replayed.state.live == 0) == (not rows(replayed))


def test_c2_a_publish_that_is_applied_again_by_the_next_owner_leaves_one_message_that_counts() -> None:
    first, second = machine(), machine()
    second.taken_over("f")
    do(first, Letters.publish, [parcel("a:1")])
    do(second, Letters.publish, [parcel("a:1")])

    [stale], [valid] = sent(first), sent(second)

    assert do(second, Letters.claim, [("a:1", stale.nonce, False)]) == [None]
    assert do(second, Letters.claim, [("a:1", valid.nonce, False)]) != [None]
    assert do(second, Letters.claim, [("a:1", valid.nonce, False)]) == [None]
    [again] = do(second, Letters.claim, [("a:1", valid.nonce, True)])
    assert (again.deliveries, again.suspect) == (2, True)


def test_c15_a_barrier_that_was_reached_is_tested_at_every_arrival() -> None:
    shard = machine()
    do(shard, Runs.open, [ops.WireOpen(Key("a", "b"), 1)])
    fire = (Once(Key("a", "o"), b"1"), Publish((parcel("a:1"),)))
    program = ops.program([Arrive(Key("a", "b"), 0, 0, fire)])

    for _ in range(2):
        assert do(shard, Machine.settle_all, [Settle(program, None)]) == [[]]

    [message] = sent(shard)
    assert message.id == "a:1"


def test_c7_time_alone_does_nothing_without_a_tick() -> None:
    shard = machine()
    do(shard, Letters.publish, [parcel("a:1", due=1)])

    shard.turn(START + 5)
    assert sent(shard) == []
    shard.tick()

    assert [message.id for message in sent(shard)] == ["a:1"]


def test_c7_leases_last_one_full_lease_more_when_the_shard_gets_another_owner() -> None:
    shard = machine(CONTROL)
    do(shard, Holders.acquire, [WireLock("l", "mutex")], "one", SHORT)
    shard.turn(START + 0.9)

    shard.taken_over("f")
    shard.turn(START + 1.5)
    shard.tick()

    assert [each.owner for each in do(shard, Holders.held, "")] == ["one"]


def test_c5_a_shard_that_is_full_refuses_what_grows_and_settles_what_runs() -> None:
    shard = machine()
    shard.most = 100
    do(shard, Runs.put, [ops.WirePut(Key("a", "v"), b"x" * 200)])
    shard.state.changes()

    [reply] = shard.perform([asked(Runs.put, [ops.WirePut(Key("a", "w"), b"y")])])

    assert reply.status is Status.FULL
    assert do(shard, Machine.settle_all, [Settle(ops.program([Put(Key("a", "o"), b"1")]), None)]) == [[]]


def test_what_belongs_to_another_shard_is_forwarded_there() -> None:
    shards = [machine(index, 2) for index in range(2)]
    here = next(name for name in "abcdefgh" if layout(2).of(name) == 0)
    there = next(name for name in "abcdefgh" if layout(2).of(name) == 1)
    program = ops.program([Once(Key(here, "o"), b"1"), Open(Key(there, "b"), 2), Put(Key(there, "v"), b"2")])

    do(shards[0], Machine.settle_all, [Settle(program, None)])

    outputs = shards[0].state.outputs
    assert {output.queue for output in outputs} == {"shard.1"}
    for output in outputs:
        shards[1].perform(msgspec.msgpack.decode(output.body, type=tuple[str, int, list[Asked], str, int, bool])[2])
    assert do(shards[1], Runs.get, [Key(there, "v")]) == [b"2"]
    assert do(shards[1], Runs.read_barriers, [Key(there, "b")]) != [None]


def test_arguments_that_are_none_are_refused_and_nothing_changes() -> None:
    shard = machine()
    before = rows(shard)

    replies = shard.perform([Asked(Runs.put.name, b"\xc1"), Asked("Runs.nothing", b"\x90")])

    assert [reply.status for reply in replies] == [Status.REFUSED, Status.UNKNOWN]
    assert rows(shard) == before


@pytest.mark.parametrize("method", sorted(Method.known))
def test_every_method_has_types_that_travel(method: str) -> None:
    known = Method.known[method]

    assert callable(known.arguments)
    assert callable(known.answer)
