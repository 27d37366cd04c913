"""From outcomes to settlements: decide, derive the program, hand it to the backend in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import anyio
import attrs
import msgspec

from motet import retry
from motet.canvas import advance
from motet.canvas.plan import PagesNeeded
from motet.canvas.records import control, lifetime, single, splice_children
from motet.engine.control import Control
from motet.engine.deadletters import bury
from motet.engine.plans import Plans
from motet.engine.submit import Child, child, spawned
from motet.errors import StateLost, Unavailable
from motet.failpoints import hit
from motet.identity import derive
from motet.message import VERSION, Key, Message, Order, Record, Ref, State, pack
from motet.outcome import Again, Cancelled, ErrorInfo, Failure, Kind, Outcome, Replaced, Success, decide
from motet.ports import Backend, Clock, Entry, Reply, Rng
from motet.ports.settler import Settlement
from motet.program import Op, Publish, Put, doubtful
from motet.registry import Registry
from motet.retry import NoRetry
from motet.worker.resolve import Job

__all__ = ["Decider", "Settling", "Waiting"]

log: logging.Logger = logging.getLogger("motet.worker")

INLINE = 16 * 1024
PARKED = frozenset({Kind.UNKNOWN_TASK, Kind.WORKER_LOST, Kind.MALFORMED, Kind.SETTLE_ERROR})
"""A message that fails for these reasons is kept as a dead letter, whatever its task says: nobody has worked it off."""


@attrs.frozen
class Decider:
    """Turns a job and its outcome into an entry."""

    registry: Registry
    plans: Plans
    clock: Clock
    rng: Rng
    marker_ttl: float
    atomic: bool

    async def entry(self, job: Job, outcome: Outcome, spawns: Sequence[Any] = ()) -> Entry:
        """Decide, and derive the program."""
        try:
            return self.entry_now(job, outcome, spawns)
        except PagesNeeded:
            program = await self.plans.ask(job.plan, lambda _: self.program(job, outcome, spawns))
            return self.wrap(job, outcome, program)

    def entry_now(self, job: Job, outcome: Outcome, spawns: Sequence[Any] = ()) -> Entry:
        """The same, without waiting.

        Raises:
            PagesNeeded: The plan must be loaded first.
        """
        return self.wrap(job, outcome, self.program(job, outcome, spawns))

    def wrap(self, job: Job, outcome: Outcome, program: Sequence[Op]) -> Entry:
        message = job.message
        settlement = Settlement(message.run, message.segment, message.node, message.attempt, outcome)
        return Entry(program, None if job.profile.at_most_once else job.delivery, settlement)

    def program(self, job: Job, outcome: Outcome, spawns: Sequence[Any]) -> Sequence[Op]:
        """Say what an outcome does; pure but for the clock and the dice."""
        now = self.clock.now()
        match outcome:
            case Success(value=value):
                return self.succeeded(job, value, now, self.children(job, spawns) if spawns else ())
            case Failure():
                verdict = decide(outcome, job.message.attempt, self.policy(job), self.rng.roll())
                if isinstance(verdict, Again):
                    due = now + verdict.delay
                    return advance.again(job.plan, job.place, job.message, due, now)
                return self.failed(job, outcome.error, now)
            case Replaced():
                children = self.children(job, spawns)
                if children:
                    kept = (splice_children(job.message.run, outcome.segment).name, pack(children))
                    outcome = msgspec.structs.replace(outcome, values=(*outcome.values, kept))
                begun = spawned(children, now)
                return advance.spliced(job.plan, job.place, outcome, now, begun, suspect=job.delivery.suspect)
            case Cancelled():
                return ()

    def policy(self, job: Job) -> retry.RetryPolicy:
        if job.profile.retry is not None:
            return retry.policy(job.profile.retry)
        return job.definition.retry_policy if job.definition is not None else NoRetry()

    def succeeded(self, job: Job, value: bytes, now: datetime, children: Sequence[Child]) -> list[Op]:
        record = Record(State.OK, value, at=now.timestamp())
        if len(value) <= INLINE and not children:
            return advance.decided(job.plan, job.place, record, now)
        # The names hold the receipt, so that two executions do not write one's values over the other's.
        run, header, nonce = job.message.run, single(job.plan), derive(job.delivery.receipt)[:8]
        ttl = None if header is None else lifetime(header.ttl)
        ops: list[Op] = []
        if len(value) > INLINE:
            name = f"v.{job.place}.{nonce}"
            record = msgspec.structs.replace(record, value=None, source=Ref(run, stored=name))
            ops.append(Put(Key(run, name), value, ttl))
        if children and not self.atomic:
            record = msgspec.structs.replace(record, spawned=f"w.{job.place}.{nonce}")
            ops.append(Put(Key(run, record.spawned), pack(children), ttl))
        return [*ops, *advance.decided(job.plan, job.place, record, now, spawned(children, now))]

    def failed(self, job: Job, error: ErrorInfo, now: datetime) -> list[Op]:
        program = advance.decided(job.plan, job.place, Record(State.ERR, error=error, at=now.timestamp()), now)
        if job.profile.dlq or error.kind in PARKED:
            return [bury(job.delivery, error, now), *program]
        return program

    def children(self, job: Job, spawns: Sequence[Any]) -> list[Child]:
        """Runs of their own that the attempt asked for; their ids come from the node and the ordinal or key."""
        ttl = job.profile.ttl or self.marker_ttl
        return [
            child(spawn.term, derive(job.message.run, str(job.place), "+", spawn.key), self.registry, ttl)
            for spawn in spawns
            if not spawn.attach
        ]


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """An entry on its way to the backend, and the message that it answers."""

    entry: Entry
    message: Message | None


class Settling:
    """Gathers entries while the batch before is in flight. `settled` hears of all that is done, or left alone."""

    def __init__(self, backend: Backend, control: Control, settled: Callable[[list[Waiting]], None]) -> None:
        self.backend = backend
        self.control = control
        self.settled = settled
        self.queue: list[Waiting] = []
        self.flight: list[Waiting] = []
        self.arrived: anyio.Event = anyio.Event()

    def report(self, waiting: Waiting) -> None:
        """Have an entry settled soon."""
        self.queue.append(waiting)
        if len(self.queue) == 1:
            self.arrived.set()

    async def serve(self) -> None:
        """Settle batch after batch, until cancelled."""
        while True:
            if not self.queue:
                self.arrived = anyio.Event()
                await self.arrived.wait()
            await self.flush()

    async def flush(self) -> None:
        """Settle what is queued, and what a cancelled flush left half-way: settling twice changes nothing (P2)."""
        self.flight, self.queue = self.flight + self.queue, []
        await self.settle(self.flight)
        self.flight = []

    async def settle(self, batch: list[Waiting]) -> None:
        """Settle a batch, and what its conflicts lead to. A broker that is away delays it, and loses nothing."""
        pause = 0.05
        while batch:
            try:
                hit("before_settle_batch")
                replies = await self.backend.settler.settle([waiting.entry for waiting in batch])
                hit("after_settle_batch")
            except Unavailable as error:
                log.warning("settle failed, trying again in %.2f s: %s", pause, error)
                if not self.backend.capabilities.atomic:
                    batch = [doubted(waiting) for waiting in batch]
                await self.control.clock.sleep(pause)
                pause = min(pause * 2, 5.0)
            except Exception:
                if len(batch) == 1:
                    log.exception("settlement refused id=%s; its message comes back after its lease", name(batch[0]))
                    self.settled(batch)
                    return
                # One entry spoils the batch (M3): alone, the others go through.
                for waiting in batch:
                    await self.settle([waiting])
                return
            else:
                batch = await self.answered(batch, replies)

    async def answered(self, batch: list[Waiting], replies: Sequence[Reply]) -> list[Waiting]:
        """Note what is done; return what must be advanced again."""
        again = [
            following
            for waiting, reply in zip(batch, replies, strict=True)
            if reply.conflicts and (following := await self.following(waiting, reply)) is not None
        ]
        if not again:
            self.settled(batch)
        else:
            held = {following.entry.delivery for following in again}
            self.settled([waiting for waiting in batch if waiting.entry.delivery not in held])
        return again

    async def following(self, waiting: Waiting, reply: Reply) -> Waiting | None:
        """Advance again from the record that won; None leaves the message to its lease."""
        message, entry = waiting.message, waiting.entry
        if message is None:
            return Waiting(Entry((), entry.delivery), None)
        while True:
            try:
                program = await self.control.after(reply.conflicts[0], message)
            except Unavailable as error:
                log.warning("cannot read what won, trying again: %s", error)
                await self.control.clock.sleep(1.0)
                continue
            except StateLost:
                program = ()
            except Exception:
                log.exception("cannot advance from what won id=%s; its message comes back", name(waiting))
                return None
            return Waiting(Entry(program, entry.delivery, entry.settlement), message)


def doubted(waiting: Waiting) -> Waiting:
    """Whether it was settled, or how far, nobody knows: what it publishes again is marked (C3).

    A replacement stops where its call has an outcome, which may be its own, of the pass before: then a message goes on.
    """
    entry = waiting.entry
    program, settlement = doubtful(entry.program), entry.settlement
    if settlement is not None and isinstance(settlement.outcome, Replaced):
        order = Message(VERSION, Order.RESUME, settlement.run, settlement.segment, settlement.node)
        program.append(Publish((msgspec.structs.replace(control(order), suspect=True),)))
    return Waiting(Entry(program, entry.delivery, settlement), waiting.message)


def name(waiting: Waiting) -> str:
    """What the log calls an entry."""
    return waiting.entry.delivery.id if waiting.entry.delivery is not None else "-"
