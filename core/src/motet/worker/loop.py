"""The worker: keep the slots full until told to stop.

No primitive of anyio is touched per message: a slot goes on to the next delivery without waiting, and one settle
carries what a batch has done. Measured on memory: 75 us a task with a task group and a semaphore, 5 with slots.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import anyio
from anyio.abc import TaskGroup

from motet.canvas.launching import current
from motet.engine.control import Control
from motet.engine.plans import Plans
from motet.engine.values import Values
from motet.errors import BackendError
from motet.failpoints import hit
from motet.options import CONTROL, Lane, Size
from motet.ports import Backend, Clock, Delivery, Ids, Rng
from motet.registry import Registry
from motet.worker.attempts import Reason, Slot
from motet.worker.cancelled import CancelledScopes
from motet.worker.execute import Executor, within
from motet.worker.handle import Handler
from motet.worker.lease import LeaseKeeper
from motet.worker.options import Options
from motet.worker.processes import ProcessSlots
from motet.worker.resolve import Resolver
from motet.worker.settle import Decider, Settling, Waiting
from motet.worker.threads import ThreadSlots

__all__ = ["Options", "Worker"]

log: logging.Logger = logging.getLogger("motet.worker")

TURN = 0.05
"""Seconds between two looks at timeouts."""
FOLLOW = 0.5
"""Seconds between two looks at cancelled scopes; a cancel is seen within a second (I6)."""
POLL = timedelta(seconds=5)
BURST = timedelta(milliseconds=20)
BACKLOG = 2
"""So many times the concurrency may be held: what runs, and what has ended and is being settled."""
UNWIND = 5.0
"""Seconds that cancelled tasks get to clean up, and then the worker to settle and to give back what they held."""


class Worker:
    """One event loop's worth of work."""

    def __init__(
        self,
        backend: Backend,
        registry: Registry,
        options: Options,
        *,
        clock: Clock,
        ids: Ids,
        rng: Rng,
        app: Any = None,
    ) -> None:
        self.backend = backend
        self.options = options
        self.lanes: tuple[Lane, ...] = options.lanes
        self.clock = clock
        self.rng = rng
        plans = Plans(backend.store)
        values = Values(backend.store, plans)
        self.cancelled: CancelledScopes = CancelledScopes(backend.store)
        control = Control(backend, plans, values, clock, options.lease)
        self.settling: Settling = Settling(backend, control, self._settled)
        self.handler: Handler = Handler(
            worker=self,
            resolver=Resolver(registry, plans, values, self.cancelled),
            executor=Executor(registry, ids, tracebacks=options.tracebacks),
            decider=Decider(
                registry, plans, clock, rng, options.lease.total_seconds() * 3, atomic=backend.capabilities.atomic
            ),
            control=control,
            clock=clock,
            processes=ProcessSlots(options.processes, tracebacks=options.tracebacks),
            app=app,
        )
        self.threads: ThreadSlots
        self.group: TaskGroup
        self.ready: deque[Delivery] = deque()
        self.quarantine: deque[Delivery] = deque()
        self.alone: str = ""
        self.held: dict[str, Delivery] = {}
        self.unfinished: list[Delivery] = []
        self.slots: list[Slot] = []
        self.idle: list[Slot] = []
        self.waking: bool = False
        self.active: int = 0
        self.stirred: anyio.Event | None = None
        self.stopping: bool = False
        self.feeding: anyio.CancelScope | None = None
        self.leases: LeaseKeeper = LeaseKeeper(
            backend.transport, options.lease, options.stall_limit, lambda: list(self.held)
        )
        self.polled: float = clock.monotonic()

    def stop(self) -> None:
        """Take nothing more; what runs has `grace` to end."""
        self.stopping = True
        if self.feeding is not None:
            self.feeding.cancel()

    def alive(self, limit: timedelta) -> bool:
        """Say whether the broker was asked for work within `limit`, or the worker has all that it can do."""
        return self.room <= 0 or self.clock.monotonic() - self.polled <= limit.total_seconds()

    @property
    def stuck(self) -> int:
        """How many threads run functions that were given up: out of time, cancelled, or with their lease lost."""
        return sum(attempt.reason is not None for attempt in self.handler.in_threads)

    async def serve(self) -> None:
        """Work until stopped, or with `burst` until nothing is left.

        What outlives the grace is cancelled and given back uncharged: another worker has it at once.
        """
        current.set(self.handler.app)
        self.threads = ThreadSlots(self.options.threads)
        if self.options.lease_thread:
            self.leases.start()
        try:
            async with anyio.create_task_group() as self.group:
                for service in (self.settling.serve, self._keep_time, self._follow):
                    self.group.start_soon(service)
                await self._feed()
                await self._drain()
                self.group.cancel_scope.cancel()
        finally:
            try:
                with anyio.move_on_after(UNWIND, shield=True):
                    await self.settling.flush()
                    await self._give_back(list(self.held.values()))
            finally:
                self.leases.stop()
                self.threads.close()
                self.handler.processes.close()

    # Taking.

    @property
    def room(self) -> int:
        """How many messages more may be taken: what runs and what waits here never exceed the limit (R57)."""
        limit = self.options.concurrency
        return min(limit - self.active - len(self.quarantine), BACKLOG * limit - len(self.held))

    async def _feed(self) -> None:
        """Take as much as there is room for, until told to stop."""
        with anyio.CancelScope() as self.feeding:
            pause = 0.1
            while not self.stopping:
                try:
                    if not await self._take():
                        return
                    pause = 0.1
                except BackendError as error:
                    wait = pause * (0.5 + self.rng.roll() / 2)
                    log.warning("receive failed, trying again in %.2f s: %s", wait, error)
                    await self.clock.sleep(wait)
                    pause = min(pause * 2, 10.0)

    async def _take(self) -> bool:
        """Take what there is; False when a burst is over."""
        if self.cancelled.cursor is None:
            await self.cancelled.follow()
        if self.quarantine and self.alone not in self.held:
            await self._from_quarantine()
        elif self.room <= 0:
            await self._stir()
            self.polled = self.clock.monotonic()
        else:
            wait = BURST if self.options.burst else timedelta(seconds=FOLLOW) if self.quarantine else POLL
            taken = await self.backend.transport.receive(self.lanes, self.room, wait)
            self.polled = self.clock.monotonic()
            if taken:
                hit("after_receive")
            self._admit(taken)
            return bool(taken) or not self.options.burst or await self._work_left()
        return True

    async def _work_left(self) -> bool:
        """Whether a burst must go on: something runs here, or is held elsewhere and may come back."""
        if self._busy():
            await self._stir(BURST.total_seconds())
            return True
        served = {*self.options.queues, CONTROL.queue}
        infos = [info for info in await self.backend.transport.queues() if info.queue in served and not info.paused]
        # With some sizes only, what is ready may be for others: that nothing was received says that ours is empty.
        all_sizes = set(self.options.sizes) == set(Size)
        return any(info.held or (all_sizes and info.ready) for info in infos)

    def _admit(self, taken: Sequence[Delivery]) -> None:
        for delivery in taken:
            self.held[delivery.receipt] = delivery
            if delivery.deliveries > 1 and delivery.lane != CONTROL:
                self.quarantine.append(delivery)
            else:
                self.active += 1
                self.ready.append(delivery)
        self._wake()

    async def _from_quarantine(self) -> None:
        """Run what may have killed a worker after one more strike, one such at a time (C10).

        It has the process to itself as long as a lease lasts. Then others run beside it: one long task that came back
        must not idle a worker, nor wait for ever for another long one to end.
        """
        await self._alone()
        if not self.quarantine:
            return
        delivery = self.quarantine[0]
        strikes = await self.backend.transport.strike(delivery)
        if delivery not in self.quarantine:
            return
        self.quarantine.remove(delivery)
        if strikes == 0:
            self.leave(delivery)  # it is another worker's by now
            return
        log.info("redelivered id=%s deliveries=%d strikes=%d", delivery.id, delivery.deliveries, strikes)
        self.alone = delivery.receipt
        self.handler.strikes[delivery.receipt] = strikes
        self.active += 1
        self.ready.append(delivery)
        self._wake()
        await self._alone()

    async def _alone(self) -> None:
        """Wait until nothing runs here, at most for a lease."""
        give_up = self.clock.monotonic() + self.options.lease.total_seconds()
        while self.active and (left := give_up - self.clock.monotonic()) > 0:
            await self._stir(left)

    async def _stir(self, limit: float | None = None) -> None:
        """Wait until a delivery has ended or been settled, at most so many seconds."""
        self.stirred = event = anyio.Event()
        if limit is None:
            await event.wait()
        else:
            await self.clock.wait(event, limit)

    def _move(self) -> None:
        if self.stirred is not None:
            self.stirred.set()
            self.stirred = None

    def _wake(self) -> None:
        """Wake one slot; it wakes the next before it starts, as long as there is work."""
        if not self.ready or self.waking:
            return
        if self.idle:
            self.waking = True
            self.idle.pop().wake.set()
        elif len(self.slots) < self.options.concurrency:
            self.waking = True
            slot = Slot()
            self.slots.append(slot)
            self.group.start_soon(self._occupy, slot)

    # Running.

    async def _occupy(self, slot: Slot) -> None:
        """Work off deliveries in one standing scope, replaced only after a cancel."""
        self.waking = False
        while True:
            with anyio.CancelScope() as slot.scope:
                if slot.delivery is not None:
                    self._done(slot, await self.handler.cut_short(slot))
                await self._work(slot)

    async def _work(self, slot: Slot) -> None:
        ready, handle = self.ready, self.handler.handle
        while not slot.scope.cancel_called:
            if not ready:
                slot.wake = anyio.Event()
                self.idle.append(slot)
                await slot.wake.wait()
                self.waking = False
                continue
            slot.delivery = ready.popleft()
            if ready and not self.waking:
                self._wake()
            self._done(slot, await within(copy_context(), handle(slot)))

    def _done(self, slot: Slot, report: Waiting | None) -> None:
        """Clear a slot. Nothing is awaited since its work ended: a cancel cannot hit the next delivery."""
        if report is not None:
            self.settling.report(report)
        if slot.delivery is not None:
            slot.delivery = None
            self.finished()
        slot.attempt = None

    def finished(self) -> None:
        """One delivery less is active."""
        self.active -= 1
        self._move()

    def _settled(self, batch: list[Waiting]) -> None:
        for waiting in batch:
            if waiting.entry.delivery is not None:
                self.held.pop(waiting.entry.delivery.receipt, None)
        self._move()

    def leave(self, delivery: Delivery) -> None:
        """Renew a delivery's lease no more."""
        self.held.pop(delivery.receipt, None)

    def hand_back(self, delivery: Delivery) -> None:
        """Give a delivery back, uncharged, as soon as what was cancelled has cleaned up."""
        self.unfinished.append(delivery)

    # Time.

    async def _keep_time(self) -> None:
        """Cancel what has run too long or is not ours any more, and show the lease thread that the loop turns."""
        while True:
            await self.clock.sleep(TURN if self.handler.timed else TURN * 10)
            self.leases.heard()
            if self.handler.timed:
                self.handler.sweep(self.clock.monotonic())
            while self.leases.lost:
                self._lose(self.leases.lost.popleft())

    def _lose(self, receipt: str) -> None:
        """Drop a delivery whose lease was lost: not started, or told to stop and not settled."""
        delivery = self.held.pop(receipt, None)
        if delivery is None:
            return
        log.warning("lease lost id=%s: its message is another worker's", delivery.id)
        if delivery in self.ready:
            self.ready.remove(delivery)
            self.finished()
        elif delivery in self.quarantine:
            self.quarantine.remove(delivery)
        else:
            self.handler.lose(delivery)

    async def _follow(self) -> None:
        """Learn which scopes are cancelled, and stop what runs in them."""
        news = True
        while True:
            try:
                news = bool(await self.cancelled.follow()) or news
                if news:
                    await self.handler.stop_cancelled()
                    news = False
                await self.handler.flush_progress()
            except BackendError as error:
                log.warning("cancelled scopes could not be read: %s", error)
            await self.clock.sleep(FOLLOW)

    # Stopping.

    async def _drain(self) -> None:
        """Give back what has not started, wait for what runs, then cancel it and give that back too."""
        waiting = [*self.ready, *self.quarantine]
        self.active -= len(self.ready)
        self.ready.clear()
        self.quarantine.clear()
        self.handler.give_up([each for each in self.handler.in_threads if each.since is None], Reason.STOP)
        waiting += self.unfinished
        self.unfinished = []
        await self._give_back(waiting)
        await self._until_settled(self.options.grace.total_seconds())
        if not self._busy():
            return
        for slot in self.slots:
            if slot.delivery is not None and slot.attempt is None:
                slot.scope.cancel()
        self.handler.give_up(self.handler.attempts(), Reason.STOP)
        await self._until_settled(UNWIND)
        await self._give_back(self.unfinished)

    async def _until_settled(self, limit: float) -> None:
        """Wait until what runs here has ended and is settled, or marked to be given back."""
        give_up = self.clock.monotonic() + limit
        while self._busy() and (left := give_up - self.clock.monotonic()) > 0:
            await self._stir(left)

    def _busy(self) -> bool:
        """Whether anything runs or is held that nobody has given up; what may start at most once is not held."""
        return (
            len(self.held) > len(self.unfinished)
            or bool(self.settling.queue or self.settling.flight)
            or any(slot.delivery is not None for slot in self.slots)
            or any(attempt.reason is None for attempt in self.handler.in_threads)
        )

    async def _give_back(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.held.pop(delivery.receipt, None)
        if not deliveries:
            return
        try:
            await self.backend.transport.release(deliveries)
        except BackendError as error:
            count = len(deliveries)
            log.warning("%d messages could not be given back; they come back after their lease: %s", count, error)
