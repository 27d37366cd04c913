"""A shard: requests in, outputs and changes out. Pure and deterministic: the owner brings time, and does the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from zlib import crc32

import msgspec

from motet.errors import UsageError
from motet.message import Key
from motet.options import Lane
from motet.program import Arrive, Bury, Do, Drop, Flag, Guard, Once, Op, Open, Publish, Put, Retry, carry_out, walk
from motet_rabbitmq import ops
from motet_rabbitmq.burials import Burials
from motet_rabbitmq.calendar import Calendar
from motet_rabbitmq.calls import Method, call
from motet_rabbitmq.feeds import Feeds
from motet_rabbitmq.holders import Holders
from motet_rabbitmq.keys import Keys
from motet_rabbitmq.letters import Held, Letters
from motet_rabbitmq.ops import WireOnce, WireOp
from motet_rabbitmq.roll import Roll
from motet_rabbitmq.runs import Runs
from motet_rabbitmq.state import Output, State
from motet_rabbitmq.wire import Asked, Reply, Status, pack_request

__all__ = ["CONTROL", "Layout", "Machine", "Settle"]

CONTROL = -1
"""The shard of what a namespace has one of: locks, schedules, flags, events, workers, pauses."""
LIVE_MOST = 64 * 1024 * 1024
"""Bytes of live state of a shard; all of it is written anew every few minutes (C5)."""


class Layout(msgspec.Struct, frozen=True):
    """How many shards there are, and what the queues of shards and lanes are called."""

    shards: int
    queue_of: Callable[[Lane], str]
    shard_queue: Callable[[int], str]

    def of(self, name: str) -> int:
        """The shard of a run, or of another name."""
        return crc32(name.encode()) % self.shards


class Settle(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A program, and what is acknowledged with it."""

    program: list[WireOp]
    held: Held | None


class Machine:
    """One shard's state, and how requests change it."""

    def __init__(self, index: int, layout: Layout, most: int = LIVE_MOST) -> None:
        self.index = index
        self.layout = layout
        self.most = most
        self.state = State()
        self.runs = Runs(self.state)
        self.letters = Letters(self.state, index, layout.queue_of, self.entered)
        self.keys = Keys(self.state, self.letters, self.apply)
        self.holders = Holders(self.state)
        self.burials = Burials(self.state, self.letters)
        self.calendar = Calendar(self.state, self.letters)
        self.feeds = Feeds(self.state)
        self.roll = Roll(self.state)
        self.parts: dict[str, Any] = {
            type(part).__name__: part
            for part in (
                *(self, self.runs, self.letters, self.keys, self.holders),
                *(self.burials, self.calendar, self.feeds, self.roll),
            )
        }
        runs, holders, feeds = self.runs, self.holders, self.feeds
        self.timely: dict[str, Any] = {
            **dict.fromkeys("rn", runs),
            **dict.fromkeys("hou", holders),
            "l": self.letters,
            "k": self.keys,
            "x": self.burials,
            "f": feeds,
            "w": self.roll,
        }

    # What comes in.

    def turn(self, now: float, *, again: bool = False) -> None:
        """Begin with a record: note what time it is, and whether it may have had its outputs before."""
        self.state.now = max(self.state.now, now)
        self.state.again = again

    def tick(self) -> None:
        """Do what is due by now."""
        for kind, first, second in list(self.state.due()):
            self.timely[kind].expired(kind, first, second)

    def taken_over(self, epoch: str) -> None:
        """A new owner has read the whole log; nonces begin with its epoch."""
        self.state.epoch = epoch
        self.holders.taken_over()

    def perform(self, asked: Sequence[Asked]) -> list[Reply]:
        """Answer calls, one after another."""
        return [self.answer(each) for each in asked]

    def answer(self, asked: Asked) -> Reply:
        method = Method.known.get(asked.method)
        if method is None:
            return Reply(Status.UNKNOWN, asked.method.encode())
        if method.grows and self.state.live > self.most:
            return Reply(Status.FULL, str(self.state.live).encode())
        try:
            arguments = method.arguments(asked.arguments)
        except msgspec.DecodeError as error:
            return Reply(Status.REFUSED, f"{asked.method}: {error}".encode())
        try:
            answer = method.function(self.parts[method.part], *arguments)
        except UsageError as error:
            return Reply(Status.REFUSED, str(error).encode())
        return Reply(Status.DONE, msgspec.msgpack.encode(answer))

    # Settling.

    @call()
    def settle_all(self, entries: list[Settle]) -> list[list[tuple[Key, bytes]]]:
        """Carry programs out, each whole; acknowledge those that had no conflict; answer the conflicts."""
        return [self.settle(entry) for entry in entries]

    @call(near=True)
    def settle_own(self, entries: list[Settle]) -> list[list[tuple[Key, bytes]] | None]:
        """The same for programs that stay in this shard; None, and not done, is what arrives where nothing is open.

        That is closed, or was forwarded by another shard and is not here yet: only the order of the queue tells.
        """
        opened = self.runs.barriers.get
        return [
            self.settle(entry) if all(opened(*key) is not None for key in arrivals(entry.program)) else None
            for entry in entries
        ]

    def settle(self, entry: Settle) -> list[tuple[Key, bytes]]:
        program = entry.program
        if len(program) == 1 and isinstance(only := program[0], WireOnce) and not self.elsewhere(only.key.run):
            # As most are; to walk it would take 1 us more.
            stored = self.runs.write_once(only)
            if stored is not None and stored != only.value:
                return [(only.key, stored)]
            if entry.held is not None:
                self.letters.let_go(entry.held)
            return []
        conflicts = self.carry_out(program)
        if entry.held is not None and not conflicts:
            self.letters.let_go(entry.held)
        return [(conflict.key, conflict.stored) for conflict in conflicts]

    @call()
    def apply_all(self, program: list[WireOp]) -> None:
        """Carry out what another shard has forwarded."""
        self.carry_out(program)

    def carry_out(self, program: Sequence[Op]) -> Sequence[Any]:
        if len(program) == 1 and isinstance(program[0], Once):
            return carry_out(program, self.apply)
        steps, answer = walk(program, atomic=False), None
        while True:
            try:
                op = steps.send(answer)
            except StopIteration as end:
                conflicts: list[Any] = end.value
                return conflicts
            answer = self.apply(op)

    def apply(self, op: Op) -> Any:
        """Do one op, here or where it belongs, and answer as `walk` asks."""
        match op:
            case Once() | Put() | Drop() | Open() if self.elsewhere(op.key.run):
                self.forward(self.layout.of(op.key.run), op)
            case Once():
                return self.runs.write_once(ops.once(op))
            case Put():
                self.runs.write(ops.put(op))
            case Drop():
                self.runs.values.drop(*op.key)
            case Open():
                self.runs.open_one(ops.opened(op))
            case Arrive():
                return self.runs.arrive(op.key, op.slot, op.failed)
            case Guard():
                return any(self.runs.values.get(*key) is not None for key in op.keys)
            case Publish():
                self.publish(op)
            case Retry():
                # As elsewhere without one transaction over mark and message: a copy is possible, and is marked.
                if self.runs.write_once(ops.WireOnce(op.key, b"1", op.ttl)) is None:
                    self.publish(Publish((op.parcel,)))
            case Flag():
                self.flag(op)
            case Bury():
                self.bury(op)
            case _:
                raise TypeError("walk opens branches itself")
        return None

    def elsewhere(self, name: str) -> bool:
        return self.layout.of(name) != self.index

    def forward(self, shard: int, op: Op) -> None:
        """Have another shard do an op; nobody waits for its answer."""
        asked = Asked(Machine.apply_all.name, msgspec.msgpack.encode((ops.program([op]),)))
        self.state.outputs.append(Output(self.layout.shard_queue(shard), pack_request([asked])))

    def publish(self, op: Publish) -> None:
        """Publish from here, whosever parcels they are: in their order, and with this record or not at all."""
        for given in op.parcels:
            parcel = ops.parcel(given)
            if self.state.again and not parcel.suspect:
                parcel = msgspec.structs.replace(parcel, suspect=True)
            self.letters.add(parcel)

    def entered(self, lane: Lane) -> None:
        """Have the control shard note a lane."""
        if self.index == CONTROL:
            self.roll.enter([lane])
        else:
            asked = Asked(Roll.enter.name, msgspec.msgpack.encode(([lane],)))
            self.state.outputs.append(Output(self.layout.shard_queue(CONTROL), pack_request([asked])))

    def flag(self, op: Flag) -> None:
        if self.index == CONTROL:
            self.feeds.write_flag(ops.flag(op))
        else:
            self.forward(CONTROL, op)

    def bury(self, op: Bury) -> None:
        if self.elsewhere(op.letter.id):
            self.forward(self.layout.of(op.letter.id), op)
        else:
            self.burials.write(op.letter)


def arrivals(ops: Sequence[Op]) -> Iterator[Key]:
    """The barriers that a program may arrive at."""
    for op in ops:
        match op:
            case Arrive():
                yield op.key
                yield from arrivals(op.then_ok)
                yield from arrivals(op.then_err)
            case Do():
                yield from arrivals(op.ops)
            case _:
                pass
