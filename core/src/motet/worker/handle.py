"""One delivery's way: resolve, run, decide, report. Data goes one way, and whatever happens ends in an entry."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import anyio
import attrs
from anyio.abc import TaskGroup

from motet.canvas.plan import PagesNeeded
from motet.context import Context, running
from motet.engine.control import Control
from motet.engine.deadletters import dead_letter
from motet.errors import DecodeError, MotetError, StateLost
from motet.message import Key, Message, Order, Place, pack, read_message
from motet.options import CONTROL
from motet.outcome import ErrorInfo, Failure, Kind, Outcome
from motet.ports import Backend, Clock, Delivery, Entry
from motet.program import Conflict, Put
from motet.worker.execute import Executor
from motet.worker.processes import ProcessSlots
from motet.worker.resolve import Decided, Job, Resolver, Skip, error_info
from motet.worker.settle import Decider, Settling

__all__ = ["Handler", "Slot"]

log = logging.getLogger("motet.worker")

PROGRESS_KEPT = timedelta(hours=1)


class Slot:
    """Where one delivery at a time is worked off."""

    __slots__ = ("delivery", "group", "job", "reason", "scope", "wake")

    def __init__(self, group: TaskGroup) -> None:
        self.group = group
        self.scope = anyio.CancelScope()
        self.wake = anyio.Event()
        self.delivery: Delivery | None = None
        self.job: Job | None = None
        self.reason = ""


class Host(Protocol):
    """What the handler needs of its worker."""

    backend: Backend
    settling: Settling
    threads: Any

    def finished(self) -> None:
        """One delivery less is active."""
        ...


@attrs.define(kw_only=True, eq=False)
class Running:
    """An attempt in progress, wherever it runs."""

    job: Job
    slot: Slot | None
    stopped: bool = False


@attrs.define(kw_only=True, eq=False)
class Handler:
    """Works deliveries off."""

    worker: Host
    resolver: Resolver
    executor: Executor
    decider: Decider
    control: Control
    clock: Clock
    app: Any = None
    strikes: dict[str, int] = attrs.field(factory=dict)
    deadlines: dict[str, tuple[float, Running]] = attrs.field(factory=dict)
    attempts: dict[str, Running] = attrs.field(factory=dict)
    progress: dict[Key, bytes] = attrs.field(factory=dict)
    processes: ProcessSlots | None = None

    async def handle(self, slot: Slot) -> None:
        """Take a delivery from its bytes to a reported entry."""
        delivery = slot.delivery
        assert delivery is not None
        try:
            message = read_message(delivery.body)
            if message.order is not Order.RUN:
                await self.carry_out(delivery, message)
                return
            job = await self.resolver.job(delivery, message)
        except DecodeError as error:
            await self.malformed(delivery, error)
            return
        except Skip as skip:
            log.debug("nothing to run id=%s %s", delivery.id, skip)
            self.report(Entry((), delivery), None)
            return
        except Decided as decided:
            program = await self.control.after(Conflict(decided.key, decided.stored), message)
            self.report(Entry(program, delivery), message)
            return
        slot.job = job
        await self.attempt(slot, job)
        slot.job = None

    async def carry_out(self, delivery: Delivery, message: Message) -> None:
        """Do what an internal message says."""
        try:
            program: Sequence[Any] = await self.control.program(message, delivery)
        except StateLost as lost:
            log.debug("nothing left to do id=%s: %s", delivery.id, lost)
            program = ()
        self.report(Entry(program, delivery), message)

    async def attempt(self, slot: Slot, job: Job) -> None:
        """Run one attempt: here, in a thread, or in a process."""
        refused = self.poisoned(job) or await self.resolver.fill(job, self.clock.now().timestamp())
        if refused is not None:
            await self.conclude(job, refused)
            return
        if job.profile.at_most_once:
            await self.worker.backend.settler.settle([Entry((), job.delivery)])
        definition = job.definition
        assert definition is not None
        context = self.begin(job, slot if definition.is_async else None)
        if definition.is_async:
            running.set(context)
            outcome = await self.executor.run_async(job, context)
            self.log_end(job, outcome)
            await self.conclude(job, outcome, context.spawned)
        elif definition.executor == "process":
            await self.in_process(job)
        else:
            self.worker.threads.start(
                lambda: self.executor.run_sync(job, context),
                lambda outcome: self.from_thread(job, outcome, context, slot),
            )

    def begin(self, job: Job, slot: Slot | None) -> Context:
        """Note that an attempt starts; its deadline counts from here."""
        attempt = Running(job=job, slot=slot)
        self.attempts[job.delivery.receipt] = attempt
        if job.profile.timeout is not None:
            self.deadlines[job.delivery.receipt] = (self.clock.monotonic() + job.profile.timeout, attempt)
        log.debug("begin task=%s run=%s attempt=%d", job.profile.task, job.message.run, job.message.attempt)
        return self.executor.context(job, lambda done, total: self.note(job, done, total), lambda: attempt.stopped)

    def ended(self, job: Job) -> Running | None:
        """Note that an attempt is over; None when it was given up before."""
        self.deadlines.pop(job.delivery.receipt, None)
        return self.attempts.pop(job.delivery.receipt, None)

    def log_end(self, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            error = outcome.error
            log.info(
                "failed task=%s run=%s attempt=%d kind=%s type=%s",
                job.profile.task,
                job.message.run,
                job.message.attempt,
                error.kind,
                error.type,
            )

    async def conclude(self, job: Job, outcome: Outcome, spawns: Sequence[Any] = ()) -> None:
        """Decide, and report."""
        self.ended(job)
        try:
            entry = await self.decider.entry(job, outcome, spawns)
        except StateLost as lost:
            log.warning("run %s is gone, its outcome with it: %s", job.message.run, lost)
            entry = Entry((), job.delivery)
        except MotetError as error:
            # What the task spawned cannot be compiled: that is the task's failure.
            entry = await self.decider.entry(job, self.executor.failed(job, error))
        self.report(entry, job.message)

    def from_thread(self, job: Job, outcome: Outcome, context: Context, slot: Slot) -> None:
        """Take an outcome from a thread, in the loop; one that comes after its timeout changes nothing."""
        if self.ended(job) is None:
            return
        self.log_end(job, outcome)
        try:
            self.report(self.decider.entry_now(job, outcome, context.spawned), job.message)
        except (PagesNeeded, MotetError):
            slot.group.start_soon(self.conclude, job, outcome, context.spawned)

    async def in_process(self, job: Job) -> None:
        """Run a plain function in a process that can be killed."""
        if self.processes is None:
            self.processes = ProcessSlots(self.app)
        outcome = await self.processes.run(job, self.executor)
        self.log_end(job, outcome)
        await self.conclude(job, outcome)

    def report(self, entry: Entry, message: Message | None) -> None:
        """Hand an entry to the settler; the slot is free."""
        self.worker.settling.report(entry, message)
        self.worker.finished()

    # What may go wrong on the way.

    def poisoned(self, job: Job) -> Failure | None:
        """Give a message up that has killed its worker too often (C10)."""
        strikes = self.strikes.pop(job.delivery.receipt, 0)
        if strikes < job.profile.max_deliveries:
            return None
        log.error("worker lost %d times: task=%s run=%s is given up", strikes, job.profile.task, job.message.run)
        return Failure(error_info(job, Kind.WORKER_LOST, "", f"its worker died {strikes} times"))

    async def malformed(self, delivery: Delivery, error: DecodeError) -> None:
        """Park bytes that nobody can read, with the reason; the run, if its id can be told, learns of it."""
        log.error("malformed message id=%s lane=%s: %s", delivery.id, delivery.lane, error)
        info = ErrorInfo(kind=Kind.MALFORMED, message=str(error), run=delivery.id.partition(":")[0])
        program: Sequence[Any] = [dead_letter(delivery, info, self.clock.now())]
        if delivery.lane != CONTROL:
            program = [*program, *await self.control.failed(delivery.id, info)]
        self.report(Entry(program, delivery), None)

    def cancelled(self, slot: Slot) -> None:
        """Report an attempt whose slot was cancelled: out of time, out of scope, or the worker ends."""
        job, delivery, reason = slot.job, slot.delivery, slot.reason
        slot.delivery, slot.job, slot.reason = None, None, ""
        assert delivery is not None
        if job is None or reason == "stop":
            self.worker.finished()
            return
        if self.ended(job) is None:
            return
        if reason == "timeout":
            slot.group.start_soon(self.conclude, job, self.timed_out(job))
        else:
            self.report(Entry((), delivery), None)

    def timed_out(self, job: Job) -> Failure:
        limit = job.profile.timeout
        return Failure(error_info(job, Kind.TIMEOUT, "TimeoutError", f"it ran longer than its timeout of {limit:g} s"))

    def sweep(self, now: float) -> None:
        """Cancel attempts whose time is up."""
        for receipt, (deadline, attempt) in list(self.deadlines.items()):
            if deadline <= now:
                del self.deadlines[receipt]
                self.give_up(attempt, "timeout")

    def give_up(self, attempt: Running, reason: str) -> None:
        attempt.stopped = True
        job = attempt.job
        if attempt.slot is not None:
            if attempt.slot.delivery is job.delivery:
                attempt.slot.reason = reason
                attempt.slot.scope.cancel()
            return
        # A thread cannot be killed: its outcome is settled now, and its thread stays taken until it returns.
        if self.ended(job) is None:
            return
        log.warning("%s: task=%s run=%s goes on in its thread", reason, job.profile.task, job.message.run)
        if reason == "timeout":
            self.worker.settling.report(self.decider.entry_now(job, self.timed_out(job)), job.message)
        else:
            self.worker.settling.report(Entry((), job.delivery), None)
        self.worker.finished()

    async def stop_cancelled(self) -> None:
        """Stop attempts in scopes that were cancelled."""
        scopes = self.resolver.cancelled
        for attempt in list(self.attempts.values()):
            job = attempt.job
            if job.message.run in scopes.runs:
                place = Place(job.message.segment, job.message.node)
                try:
                    covered = await self.resolver.plans.ask(job.plan, lambda plan, at=place: scopes.covers(plan, at))  # type: ignore[misc]  # the default binds the loop variable
                except StateLost:
                    covered = True
                if covered:
                    self.give_up(attempt, "cancelled")

    @property
    def in_threads(self) -> list[Delivery]:
        """Deliveries whose functions run in threads: they are given back when the worker ends, and may run twice."""
        return [attempt.job.delivery for attempt in self.attempts.values() if attempt.slot is None]

    # Progress.

    def note(self, job: Job, done: int, total: int) -> None:
        """Remember how far a task says it is; the latest word is written twice a second."""
        self.progress[Key(job.message.run, f"g.{job.place}")] = pack((done, total))

    async def flush_progress(self) -> None:
        """Write what tasks have said of their progress."""
        if self.progress:
            noted, self.progress = self.progress, {}
            await self.worker.backend.store.put([Put(key, value, PROGRESS_KEPT) for key, value in noted.items()])

    def close(self) -> None:
        """End the processes."""
        if self.processes is not None:
            self.processes.close()
