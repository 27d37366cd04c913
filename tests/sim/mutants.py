"""Protocols that are subtly wrong: what the simulator must notice. Each is a patch of the world or of the core.

`python tests/sim/simulate.py --mutants` looks for seeds again, when a change of the workload has moved them.

Two mutants of the design's list are not here, because nothing can be seen of them: a barrier that is deleted after its
group was decided, and one that a late arrival makes anew. Outcomes are written once, so that neither changes a value;
and the sweep of a run removes whatever barriers it has, so that neither leaves anything behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

import motet.canvas.flow
from motet.engine.ordered import OrderedSettler
from motet.memory.holders import Holders
from motet.memory.records import Records, Slots
from motet.memory.schedules import MemorySchedules
from motet.memory.store import MemoryStore
from motet.memory.world import World
from motet.ports import Entry, Lock, Reply
from motet.program import Arrival, Once, Op, Publish, Put, Retry
from motet.worker.cancelled import CancelledScopes
from motet.worker.lease import LeaseKeeper
from motet.worker.resolve import Resolver

__all__ = ["MUTANTS", "Mutant"]

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutant:
    """A patch, and the seeds that show it."""

    patches: Callable[[], Sequence[Patch]]
    mode: str
    seeds: tuple[int, ...]

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Be wrong for a while."""
        patches = self.patches()
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
        for owner, name, wrong in patches:
            setattr(owner, name, wrong)
        try:
            yield
        finally:
            for owner, name, right in before:
                setattr(owner, name, right)


def edge_triggered() -> Sequence[Patch]:
    """A barrier fires only for the arrival that completes it: a crash between the two loses the workflow."""
    right = Slots.arrive

    def arrive(self: Slots, slot: int, failed: int) -> Arrival | None:
        return None if slot in self.arrived else right(self, slot, failed)

    return [(Slots, "arrive", arrive)]


def counter() -> Sequence[Patch]:
    """A barrier counts arrivals, and a repeated one twice."""

    def arrive(self: Slots, slot: int, failed: int) -> Arrival:
        self.arrived[-len(self.arrived) - 1] = failed
        self.failed += failed
        return Arrival(self.size, len(self.arrived), self.failed, self.max_failed, self.fast)

    return [(Slots, "arrive", arrive)]


def counted_twice() -> Sequence[Patch]:
    """A slot that arrives again brings its failure a second time."""

    def arrive(self: Slots, slot: int, failed: int) -> Arrival:
        self.arrived.setdefault(slot, failed)
        self.failed += failed
        return Arrival(self.size, len(self.arrived), self.failed, self.max_failed, self.fast)

    return [(Slots, "arrive", arrive)]


def ack_first() -> Sequence[Patch]:
    """The message is acknowledged before anything of it has taken effect."""
    right = OrderedSettler.settle_one

    async def settle_one(self: OrderedSettler, entry: Entry) -> Reply:
        if entry.delivery is not None:
            await self.transport.ack([entry.delivery])
        return await right(self, entry)

    return [(OrderedSettler, "settle_one", settle_one)]


def publish_first() -> Sequence[Patch]:
    """What follows is published before the outcome is recorded."""
    right = OrderedSettler.settle_one

    def hoisted(program: Sequence[Op]) -> list[Op]:
        first = next((place for place, op in enumerate(program) if isinstance(op, Once)), len(program))
        early = [op for op in program[first:] if isinstance(op, Publish)]
        return [*program[:first], *early, *(op for op in program[first:] if not isinstance(op, Publish))]

    async def settle_one(self: OrderedSettler, entry: Entry) -> Reply:
        return await right(self, Entry(hoisted(entry.program), entry.delivery, entry.settlement))

    return [(OrderedSettler, "settle_one", settle_one)]


def last_writer_wins() -> Sequence[Patch]:
    """An outcome replaces the one before it."""

    def put_once(self: Records, op: Once) -> bytes | None:
        Records.put(self, Put(op.key, op.value, op.ttl))
        return None

    return [(Records, "put_once", put_once)]


def deleted_early() -> Sequence[Patch]:
    """A barrier is deleted by the arrival that completes it, before its group is decided."""
    right = MemoryStore.arrive

    async def arrive(self: MemoryStore, key: Any, slot: int, failed: int) -> Arrival | None:
        arrival = await right(self, key, slot, failed)
        if arrival is not None and arrival.arrived >= arrival.size:
            del self.world.records.barriers[key]
        return arrival

    return [(MemoryStore, "arrive", arrive)]


def not_renewed() -> Sequence[Patch]:
    """Leases are not renewed."""

    def renew(self: LeaseKeeper) -> None:
        pass

    return [(LeaseKeeper, "renew", renew)]


def not_fenced() -> Sequence[Patch]:
    """A worker that has lost its message may settle it still."""
    right = World.settle_all

    def settle_all(self: World, entries: Sequence[Entry]) -> list[Reply]:
        free = [
            entry
            if entry.delivery is None or self.letters.holds(entry.delivery)
            else Entry(entry.program, None, entry.settlement)
            for entry in entries
        ]
        return right(self, free)

    return [(World, "settle_all", settle_all)]


def swept_early() -> Sequence[Patch]:
    """The records of a run go as soon as it has ended."""
    flow = motet.canvas.flow.Flow
    right = flow.end

    def end(self: Any, ops: list[Op]) -> None:
        right(self, ops)
        if ops and isinstance(last := ops[-1], Publish):
            ops[-1] = Publish(tuple(msgspec.structs.replace(each, due=self.second) for each in last.parcels))

    return [(flow, "end", end)]


def mark_left() -> Sequence[Patch]:
    """The mark of a single call's next attempt stays behind."""
    right = World.apply

    def apply(self: World, op: Op) -> Any:
        return right(self, Retry(op.key, op.parcel) if isinstance(op, Retry) else op)

    return [(World, "apply", apply)]


def not_looked_up() -> Sequence[Patch]:
    """A message that may have run before runs again without a look."""

    async def look_back(self: Resolver, plan: Any, message: Any) -> None:
        pass

    return [(Resolver, "look_back", look_back)]


def not_stopped() -> Sequence[Patch]:
    """Work of a cancelled scope is started all the same."""

    def covers(self: CancelledScopes, plan: Any, place: Any) -> bool:
        return False

    return [(CancelledScopes, "covers", covers)]


def crowded() -> Sequence[Patch]:
    """A lock is granted to one holder too many."""
    right = Holders.busy

    def busy(self: Holders, lock: Lock, name: str, owner: Any, now: float) -> float | None:
        return None if len(self.locks.get(lock.name, {})) == 1 else right(self, lock, name, owner, now)

    return [(Holders, "busy", busy)]


def fired_again() -> Sequence[Patch]:
    """A schedule sends what is due whether or not somebody else has."""
    right = MemorySchedules.fire

    async def fire(self: MemorySchedules, name: str, due: Any, following: Any, parcels: Sequence[Any]) -> bool:
        self.world.letters.publish(parcels)
        return await right(self, name, due, following, parcels)

    return [(MemorySchedules, "fire", fire)]


MUTANTS: dict[str, Mutant] = {
    "edge-triggered barrier": Mutant(edge_triggered, "ordered", (0, 6, 19)),
    "counter instead of set": Mutant(counter, "ordered", (6, 25, 39)),
    "slot counted twice": Mutant(counted_twice, "ordered", (354, 465, 591)),
    "ack first": Mutant(ack_first, "ordered", (0, 6, 10)),
    "publish before recording": Mutant(publish_first, "ordered", (0, 1, 3)),
    "last writer wins": Mutant(last_writer_wins, "ordered", (1, 2, 3)),
    "barrier deleted before its group is decided": Mutant(deleted_early, "ordered", (0, 6, 19)),
    "lease not renewed": Mutant(not_renewed, "fused", (4, 6, 9)),
    "fence not checked": Mutant(not_fenced, "fused", (4, 23, 26)),
    "sweep too early": Mutant(swept_early, "fused", (2, 5, 7)),
    "a mark is left behind": Mutant(mark_left, "fused", (79, 91, 92)),
    "suspect delivery not looked up": Mutant(not_looked_up, "fused", (2, 6, 12)),
    "cancelled work is started": Mutant(not_stopped, "fused", (522, 1598, 2617)),
    "lock granted to one too many": Mutant(crowded, "fused", (3, 33, 42)),
    "due time fired by everybody": Mutant(fired_again, "fused", (258, 396, 427)),
}
