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
from motet.canvas.records import lifetime, single
from motet.engine.control import Control
from motet.engine.deadletters import bury
from motet.engine.plans import Plans
from motet.engine.submit import spawned
from motet.errors import StateLost, Unavailable
from motet.failpoints import hit
from motet.identity import derive
from motet.message import Key, Message, Record, Ref, State
from motet.outcome import Again, Cancelled, ErrorInfo, Failure, Kind, Outcome, Replaced, Success, decide
from motet.ports import Backend, Clock, Entry, Reply, Rng
from motet.ports.settler import Settlement
from motet.program import Do, Op, Put
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
                return self.succeeded(job, value, now, self.spawned(job, spawns, now) if spawns else ())
            case Failure():
                verdict = decide(outcome, job.message.attempt, self.policy(job), self.rng.roll())
                if isinstance(verdict, Again):
                    due = now + verdict.delay
                    return advance.again(job.plan, job.place, job.message, due, now)
                return self.failed(job, outcome.error, now)
            case Replaced():
                return advance.spliced(job.plan, job.place, outcome, now, self.spawned(job, spawns, now))
            case Cancelled():
                return ()

    def policy(self, job: Job) -> retry.RetryPolicy:
        if job.profile.retry is not None:
            return retry.policy(job.profile.retry)
        return job.definition.retry_policy if job.definition is not None else NoRetry()

    def succeeded(self, job: Job, value: bytes, now: datetime, spawned_ops: Sequence[Op]) -> list[Op]:
        if len(value) <= INLINE:
            record = Record(State.OK, value, at=now.timestamp())
            return advance.decided(job.plan, job.place, record, now, spawned_ops)
        # Claim check: the name holds the receipt, so that two executions do not write one value over the other.
        name = f"v.{job.place}.{derive(job.delivery.receipt)[:8]}"
        header = single(job.plan)
        ttl = None if header is None else lifetime(header.ttl)
        record = Record(State.OK, source=Ref(job.message.run, stored=name), at=now.timestamp())
        put = Put(Key(job.message.run, name), value, ttl)
        return [put, *advance.decided(job.plan, job.place, record, now, spawned_ops)]

    def failed(self, job: Job, error: ErrorInfo, now: datetime) -> list[Op]:
        program = advance.decided(job.plan, job.place, Record(State.ERR, error=error, at=now.timestamp()), now)
        if job.profile.dlq or error.kind in PARKED:
            return [bury(job.delivery, error, now), *program]
        return program

    def spawned(self, job: Job, spawns: Sequence[Any], now: datetime) -> list[Op]:
        """Runs of their own that the attempt asked for; their ids come from the node and the ordinal or key."""
        ops: list[Op] = []
        for spawn in spawns:
            if not spawn.attach:
                run = derive(job.message.run, str(job.place), "+", spawn.key)
                ops.append(Do(spawned(spawn.term, run, self.registry, now, job.profile.ttl)))
        return ops


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


def name(waiting: Waiting) -> str:
    """What the log calls an entry."""
    return waiting.entry.delivery.id if waiting.entry.delivery is not None else "-"
