"""One delivery's way: resolve, run, decide. Data goes one way, and whatever happens ends in something to settle."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, Protocol, TypeVar

import attrs
from anyio.abc import TaskGroup

from motet.context import running
from motet.engine.control import Control
from motet.engine.deadletters import bury
from motet.errors import DecodeError, Fail, MotetError, Rejected, StateLost, Unavailable
from motet.failpoints import hit
from motet.message import Key, Message, Order, read_message
from motet.options import CONTROL
from motet.outcome import Cancelled, ErrorInfo, Failure, Kind, Outcome
from motet.ports import Backend, Clock, Delivery, Entry
from motet.program import Conflict, Op, Put
from motet.worker.attempts import Attempt, Reason, Slot
from motet.worker.execute import Executor
from motet.worker.processes import ProcessSlots
from motet.worker.resolve import Decided, Job, Resolver, Skip, error_info
from motet.worker.settle import Decider, Settling, Waiting
from motet.worker.threads import ThreadSlots

__all__ = ["Handler"]

log: logging.Logger = logging.getLogger("motet.worker")

P = ParamSpec("P")
T = TypeVar("T")

PROGRESS_KEPT = timedelta(hours=1)
PAUSE = 0.05
LONGEST_PAUSE = 5.0


class Host(Protocol):
    """What the handler needs of its worker."""

    backend: Backend
    settling: Settling
    threads: ThreadSlots
    slots: list[Slot]
    group: TaskGroup

    def finished(self) -> None:
        """One delivery less is active."""
        ...

    def leave(self, delivery: Delivery) -> None:
        """Let the lease of a delivery run out."""
        ...

    def hand_back(self, delivery: Delivery) -> None:
        """Give a delivery back, uncharged, when the worker ends."""
        ...


@attrs.define(kw_only=True, eq=False)
class Handler:
    """Works deliveries off."""

    worker: Host
    resolver: Resolver
    executor: Executor
    decider: Decider
    control: Control
    clock: Clock
    processes: ProcessSlots
    app: Any = None
    strikes: dict[str, int] = attrs.field(factory=dict[str, int])
    timed: set[Attempt] = attrs.field(factory=set[Attempt])
    in_threads: set[Attempt] = attrs.field(factory=set[Attempt])
    progress: dict[Key, bytes] = attrs.field(factory=dict[Key, bytes])

    async def handle(self, slot: Slot) -> Waiting | None:
        """Take a delivery from its bytes to what shall be settled; None when nothing is, or a thread has it now."""
        delivery = slot.delivery
        assert delivery is not None
        try:
            message = read_message(delivery.body)
            if message.order is not Order.RUN:
                return await self.carry_out(delivery, message)
            job = self.resolver.look(delivery, message) or await self.look_closely(delivery, message)
            if isinstance(job, Waiting):
                return job
            refused = self.poisoned(job) if self.strikes else None
            refused = refused or self.resolver.check(job, self.clock)
            if refused is None and not self.resolver.complete(job):
                refused = await self.patiently(self.resolver.fill, job)
            if refused is not None:
                return await self.conclude(job, refused)
            return await self.attempt(slot, job)
        except DecodeError as error:
            return await self.dead(delivery, Kind.MALFORMED, error)
        except Exception as error:
            log.exception("worker failed at id=%s", delivery.id)
            return await self.dead(delivery, Kind.SETTLE_ERROR, error)

    async def look_closely(self, delivery: Delivery, message: Message) -> Job | Waiting:
        """Read what a message does not carry, and what became of its node before."""
        try:
            return await self.patiently(self.resolver.job, delivery, message)
        except Skip as skip:
            log.debug("nothing to run id=%s %s", delivery.id, skip)
            return Waiting(Entry((), delivery), None)
        except Decided as decided:
            conflict = Conflict(decided.key, decided.stored)
            try:
                program = await self.patiently(self.control.after, conflict, message)
            except StateLost:
                program = ()
            return Waiting(Entry(program, delivery), message)

    async def carry_out(self, delivery: Delivery, message: Message) -> Waiting:
        """Do what an internal message says."""
        try:
            program: Sequence[Op] = await self.patiently(self.control.program, message, delivery)
        except StateLost as lost:
            log.debug("nothing left to do id=%s: %s", delivery.id, lost)
            program = ()
        return Waiting(Entry(program, delivery), message)

    async def patiently(self, ask: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask the backend until it answers: the slot waits, and so the broker keeps what it has."""
        pause = PAUSE
        while True:
            try:
                return await ask(*args, **kwargs)
            except (Unavailable, Rejected) as error:
                log.warning("backend failed, trying again in %.2f s: %s", pause, error)
                await self.clock.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    # One attempt.

    async def attempt(self, slot: Slot, job: Job) -> Waiting | None:
        """Run one attempt: here, in a thread, or in a process."""
        definition = job.definition
        assert definition is not None
        if job.profile.at_most_once and not await self.given_away(job):
            return None
        in_thread = not definition.is_async and definition.executor == "thread"
        attempt = Attempt(job, None if in_thread else slot, self.progress)
        timed = job.profile.timeout is not None
        if timed:
            self.timed.add(attempt)
        log.debug("begin task=%s run=%s attempt=%d", job.profile.task, job.message.run, job.message.attempt)
        hit("before_run")
        if in_thread:
            self.into_thread(attempt)
            slot.delivery = None
            return None
        slot.attempt = attempt
        if definition.is_async:
            attempt.since = self.clock.monotonic() if timed else 0.0
            context = self.executor.context(job, attempt.note, attempt.stopping)
            running.set(context)
            outcome, spawns = await self.executor.run_async(job, context), context.spawned
        else:
            outcome, spawns = await self.processes.run(attempt, self.clock)
        hit("after_run")
        if timed:
            self.timed.discard(attempt)
        if attempt.reason is not None and isinstance(outcome, Failure):
            # What it made of being cancelled is not what it came to.
            return await self.cut_short(slot)
        return self.conclude_now(job, outcome, spawns) or await self.conclude_slowly(job, outcome, spawns)

    async def given_away(self, job: Job) -> bool:
        """Acknowledge before the start (at most once); False when the message is another worker's by now."""
        (reply,) = await self.patiently(self.worker.backend.settler.settle, [Entry((), job.delivery)])
        self.worker.leave(job.delivery)
        return not reply.lost

    def conclude_now(self, job: Job, outcome: Outcome, spawns: Sequence[Any] = ()) -> Waiting | None:
        """Decide, and derive what shall be settled; None when that takes a second look, with all the plan's pages."""
        if isinstance(outcome, Failure):
            self.log_failure(job, outcome.error)
        try:
            return Waiting(self.decider.entry_now(job, outcome, spawns), job.message)
        except Exception:  # noqa: BLE001 - whatever it is, it is dealt with at the second look
            return None

    async def conclude(self, job: Job, outcome: Outcome) -> Waiting | None:
        """Do the same, and wait for the second look if need be."""
        return self.conclude_now(job, outcome) or await self.conclude_slowly(job, outcome, ())

    async def conclude_slowly(self, job: Job, outcome: Outcome, spawns: Sequence[Any]) -> Waiting | None:
        """Decide once the plan is loaded, or say what is wrong with the outcome."""
        try:
            try:
                entry = await self.patiently(self.decider.entry, job, outcome, spawns)
            except StateLost as lost:
                log.warning("run %s is gone, its outcome with it: %s", job.message.run, lost)
                entry = self.decider.wrap(job, outcome, ())
            except MotetError as error:
                # What the task spawned cannot be compiled: that is the task's failure.
                entry = await self.patiently(self.decider.entry, job, self.executor.failed(job, error))
        except Exception as error:
            log.exception("deciding failed task=%s run=%s", job.profile.task, job.message.run)
            if isinstance(outcome, Failure) and outcome.error.kind == Kind.SETTLE_ERROR:
                self.worker.leave(job.delivery)
                return None
            info = error_info(job, Kind.SETTLE_ERROR, type(error).__qualname__, str(error))
            return await self.conclude_slowly(job, Failure(info), ())
        return Waiting(entry, job.message)

    def log_failure(self, job: Job, error: ErrorInfo) -> None:
        """Say that an attempt failed; never with arguments or values."""
        profile, message = job.profile, job.message
        log.info(
            "failed task=%s run=%s attempt=%d kind=%s type=%s",
            profile.task,
            message.run,
            message.attempt,
            error.kind,
            error.type,
        )

    # Threads.

    def into_thread(self, attempt: Attempt) -> None:
        """Run a plain function in a thread; it stays active until it returns, whatever becomes of it before."""
        self.in_threads.add(attempt)
        context = self.executor.context(attempt.job, attempt.note, attempt.stopping)

        def work() -> Outcome:
            if attempt.reason is not None:
                return Cancelled()  # given up while it waited for a thread
            attempt.since = self.clock.monotonic()
            return self.executor.run_sync(attempt.job, context)

        def done(outcome: Outcome) -> None:
            hit("after_run")
            self.in_threads.discard(attempt)
            self.timed.discard(attempt)
            if attempt.reason is None:
                self.conclude_soon(attempt.job, outcome, context.spawned)
            self.worker.finished()

        self.worker.threads.start(work, done)

    def conclude_soon(self, job: Job, outcome: Outcome, spawns: Sequence[Any] = ()) -> None:
        """Settle an outcome from outside the slots."""
        report = self.conclude_now(job, outcome, spawns)
        if report is not None:
            self.worker.settling.report(report)
        else:
            self.worker.group.start_soon(self.conclude_later, job, outcome, spawns)

    async def conclude_later(self, job: Job, outcome: Outcome, spawns: Sequence[Any]) -> None:
        report = await self.conclude_slowly(job, outcome, spawns)
        if report is not None:
            self.worker.settling.report(report)

    # Giving up.

    def attempts(self) -> Iterator[Attempt]:
        """Everything in progress."""
        yield from [slot.attempt for slot in self.worker.slots if slot.attempt is not None]
        yield from list(self.in_threads)

    def sweep(self, now: float) -> None:
        """Give up attempts whose time is up."""
        self.give_up([attempt for attempt in self.timed if attempt.expired(now)], Reason.TIMEOUT)

    def lose(self, delivery: Delivery) -> None:
        """Give an attempt up whose message is another worker's by now: it must not settle."""
        mine = [attempt for attempt in self.attempts() if attempt.job.delivery.receipt == delivery.receipt]
        self.give_up(mine, Reason.LOST)

    async def stop_cancelled(self) -> None:
        """Give up attempts in scopes that were cancelled."""
        runs = self.resolver.cancelled.runs
        named = [attempt for attempt in self.attempts() if attempt.job.message.run in runs]
        self.give_up([attempt for attempt in named if await self.resolver.covered(attempt.job)], Reason.CANCELLED)

    def give_up(self, attempts: Iterable[Attempt], reason: Reason) -> None:
        """End attempts early: cancel their slots; threads can only be told, and what they come to is settled now."""
        current = [attempt for attempt in attempts if attempt.reason is None and self.goes_on(attempt)]
        # All are marked before any is told: the thread that one of them leaves must not begin the next.
        for attempt in current:
            attempt.reason = reason
        for attempt in current:
            self.timed.discard(attempt)
            if attempt.slot is not None:
                attempt.slot.scope.cancel()
            else:
                self.tell(attempt, reason)

    def goes_on(self, attempt: Attempt) -> bool:
        """Whether an attempt has not ended meanwhile."""
        return attempt in self.in_threads if attempt.slot is None else attempt.slot.attempt is attempt

    def tell(self, attempt: Attempt, reason: Reason) -> None:
        """Settle what a thread was given up for; it can see for itself that it was."""
        job = attempt.job
        log.warning("%s: task=%s run=%s goes on in its thread", reason.value, job.profile.task, job.message.run)
        outcome = self.come_to(attempt)
        if outcome is not None:
            self.conclude_soon(job, outcome)

    async def cut_short(self, slot: Slot) -> Waiting | None:
        """Say what shall be settled for a slot that was cancelled."""
        attempt = slot.attempt
        if attempt is None or attempt.reason is None:
            assert slot.delivery is not None
            self.worker.hand_back(slot.delivery)
            return None
        outcome = self.come_to(attempt)
        return None if outcome is None else await self.conclude(attempt.job, outcome)

    def come_to(self, attempt: Attempt) -> Outcome | None:
        """What an attempt that was given up comes to; None when its message is, or will be, another worker's."""
        job = attempt.job
        match attempt.reason:
            case Reason.TIMEOUT:
                text = f"it ran longer than its timeout of {job.profile.timeout:g} s"
                return Failure(error_info(job, Kind.TIMEOUT, "TimeoutError", text))
            case Reason.CANCELLED:
                return Cancelled()
            case Reason.STOP if job.profile.at_most_once:
                text = "its worker ended before it did, and it may start at most once"
                return Failure(error_info(job, Kind.STOPPED, "", text), Fail(text))
            case Reason.STOP:
                self.worker.hand_back(job.delivery)
                return None
            case Reason.LOST | None:
                return None

    # What may be wrong with a delivery.

    def poisoned(self, job: Job) -> Failure | None:
        """Give a message up that has killed its worker too often (C10)."""
        strikes = self.strikes.pop(job.delivery.receipt, 0)
        if strikes < job.profile.max_deliveries:
            return None
        log.error("worker lost %d times: task=%s run=%s is given up", strikes, job.profile.task, job.message.run)
        text = f"its worker died {strikes} times"
        return Failure(error_info(job, Kind.WORKER_LOST, "", text), Fail(text))

    async def dead(self, delivery: Delivery, kind: Kind, error: Exception) -> Waiting | None:
        """Park what nobody can work off, with the reason; the run, if its id can be told, learns of it."""
        log.error("%s message id=%s lane=%s: %s", kind, delivery.id, delivery.lane, error)
        self.strikes.pop(delivery.receipt, None)
        run = delivery.id.partition(":")[0]
        info = ErrorInfo(kind=kind, type=type(error).__qualname__, message=str(error), run=run)
        program: list[Op] = [bury(delivery, info, self.clock.now())]
        # Of internal messages those that start something: nothing would ever end what they leave out.
        if delivery.lane != CONTROL or delivery.id.rpartition(":")[2][:1] in (Order.START, Order.EXPAND):
            try:
                program += await self.patiently(self.control.failed, delivery.id, info)
            except Exception:
                log.exception("run %s cannot learn of it", run)
        return Waiting(Entry(program, delivery), None)

    # Progress.

    async def flush_progress(self) -> None:
        """Write what tasks have said of their progress."""
        if self.progress:
            noted = list(self.progress.items())
            await self.worker.backend.store.put([Put(key, value, PROGRESS_KEPT) for key, value in noted])
            for key, value in noted:
                if self.progress.get(key) is value:
                    del self.progress[key]
