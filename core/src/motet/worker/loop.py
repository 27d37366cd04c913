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
import attrs
from anyio.abc import TaskGroup

from motet.canvas.launching import current
from motet.engine.control import Control
from motet.engine.plans import Plans
from motet.engine.values import Values
from motet.errors import MotetError, Unavailable
from motet.options import CONTROL, Lane, Priority, Size, seconds
from motet.ports import Backend, Clock, Delivery, Ids, Rng
from motet.registry import Registry
from motet.worker.cancelled import CancelledScopes
from motet.worker.execute import Executor, within
from motet.worker.handle import Handler, Slot
from motet.worker.lease import LeaseKeeper
from motet.worker.resolve import Resolver
from motet.worker.settle import Decider, Settling
from motet.worker.threads import ThreadSlots

__all__ = ["Options", "Worker"]

log = logging.getLogger("motet.worker")

TURN = 0.05
"""Seconds between two looks at timeouts."""
FOLLOW = 0.5
"""Seconds between two looks at cancelled scopes; a cancel is seen within a second (I6)."""
POLL = timedelta(seconds=5)


def duration(value: float | timedelta) -> timedelta:
    """Read a public duration."""
    return timedelta(seconds=seconds(value))


@attrs.frozen(kw_only=True)
class Options:
    """How a worker works. Durations are seconds or `timedelta`."""

    concurrency: int = 100
    threads: int = 40
    queues: tuple[str, ...] = ("default",)
    sizes: tuple[Size, ...] = tuple(Size)
    burst: bool = False
    grace: timedelta = attrs.field(default=timedelta(seconds=30), converter=duration)
    lease: timedelta = attrs.field(default=timedelta(seconds=15), converter=duration)
    stall_limit: timedelta = attrs.field(default=timedelta(seconds=60), converter=duration)
    tracebacks: bool = False
    lease_thread: bool = True

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Where the worker takes from, in order: internal messages first, then by priority."""
        lanes = [
            Lane(queue, size.value, int(priority))
            for priority in Priority
            for queue in self.queues
            for size in self.sizes
        ]
        return (CONTROL, *lanes)


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
        self.clock = clock
        plans = Plans(backend.store)
        values = Values(backend.store, plans)
        self.cancelled = CancelledScopes(backend.store)
        control = Control(backend, plans, values, clock)
        self.settling = Settling(backend, control, self._settled)
        marker = options.lease.total_seconds() * 3
        self.handler = Handler(
            worker=self,
            resolver=Resolver(registry, plans, values, self.cancelled),
            executor=Executor(registry, ids, tracebacks=options.tracebacks),
            decider=Decider(registry, plans, clock, rng, marker),
            control=control,
            clock=clock,
            app=app,
        )
        self.threads: ThreadSlots
        self.ready: deque[Delivery] = deque()
        self.quarantine: deque[Delivery] = deque()
        self.held: dict[str, Delivery] = {}
        self.idle: list[Slot] = []
        self.slots: list[Slot] = []
        self.active = 0
        self.hungry = anyio.Event()
        self.stopping = anyio.Event()
        self.leases = LeaseKeeper(backend.transport, options.lease, options.stall_limit, lambda: list(self.held))
        self.polled = clock.monotonic()
        self.executions = 0

    def stop(self) -> None:
        """Take nothing more; what runs has `grace` to end."""
        self.stopping.set()
        self.hungry.set()

    async def serve(self) -> None:
        """Work until stopped, or with `burst` until nothing is left.

        What outlives the grace is cancelled and given back uncharged: another worker has it at once.
        """
        current.set(self.handler.app)
        self.threads = ThreadSlots(self.options.threads)
        if self.options.lease_thread:
            self.leases.start()
        try:
            async with anyio.create_task_group() as settlers:
                settlers.start_soon(self.settling.serve)
                async with anyio.create_task_group() as running:
                    running.start_soon(self._keep_time)
                    running.start_soon(self._follow)
                    await self._feed(running)
                    await self._drain()
                    running.cancel_scope.cancel()
                self.settling.close()
        finally:
            self.leases.stop()
            self.threads.close()
            self.handler.close()

    # Taking.

    async def _feed(self, running: TaskGroup) -> None:
        """Take as much as there are free slots, until told to stop."""
        with anyio.CancelScope() as feeding:
            running.start_soon(self._cancel_when_stopping, feeding)
            pause = 0.1
            while not self.stopping.is_set():
                if self.quarantine:
                    await self._serve_quarantine(running)
                free = self.options.concurrency - self.active
                if free <= 0:
                    await self._wait_for_room()
                    continue
                try:
                    taken = await self._receive(free)
                    pause = 0.1
                except Unavailable as error:
                    log.warning("receive failed, trying again in %.1f s: %s", pause, error)
                    await self.clock.sleep(pause)
                    pause = min(pause * 2, 10.0)
                    continue
                self.polled = self.clock.monotonic()
                if taken:
                    self._admit(taken, running)
                elif self.options.burst and not await self._work_left():
                    return

    async def _receive(self, free: int) -> list[Delivery]:
        wait = (
            POLL if not self.options.burst else timedelta(milliseconds=20 if self.active or self.settling.busy else 0)
        )
        return await self.backend.transport.receive(self.options.lanes, free, wait)

    async def _work_left(self) -> bool:
        """Whether a burst must go on: something runs here, or is held or parked somewhere and will be ready."""
        if self.active or self.settling.busy or self.quarantine:
            await self.clock.sleep(0.001)
            return True
        served = {*self.options.queues, CONTROL.queue}
        infos = await self.backend.transport.queues()
        return any(info.ready and not info.paused for info in infos if info.queue in served)

    async def _wait_for_room(self) -> None:
        self.hungry = anyio.Event()
        if self.active >= self.options.concurrency and not self.stopping.is_set():
            await self.hungry.wait()

    async def _cancel_when_stopping(self, feeding: anyio.CancelScope) -> None:
        await self.stopping.wait()
        feeding.cancel()

    def _admit(self, taken: Sequence[Delivery], running: TaskGroup) -> None:
        for delivery in taken:
            self.held[delivery.receipt] = delivery
            if delivery.deliveries > 1 and delivery.lane != CONTROL:
                self.quarantine.append(delivery)
            else:
                self.active += 1
                self.ready.append(delivery)
        self._wake(running)

    def _wake(self, running: TaskGroup) -> None:
        """Wake one slot; it wakes the next before it starts, as long as there is work."""
        if not self.ready:
            return
        if self.idle:
            self.idle.pop().wake.set()
        elif len(self.slots) < self.options.concurrency:
            slot = Slot(running)
            self.slots.append(slot)
            running.start_soon(self._occupy, slot)

    async def _serve_quarantine(self, running: TaskGroup) -> None:
        """Run what may have killed a worker one at a time, alone in this process (C10)."""
        while self.quarantine and not self.stopping.is_set():
            while self.active:
                await self._idle_moment()
            delivery = self.quarantine.popleft()
            self.active += 1
            strikes = await self.backend.transport.strike(delivery)
            self.handler.strikes[delivery.receipt] = strikes
            self.ready.append(delivery)
            self._wake(running)
            while self.active:
                await self._idle_moment()

    async def _idle_moment(self) -> None:
        self.hungry = anyio.Event()
        if self.active:
            await self.hungry.wait()

    # Running.

    async def _occupy(self, slot: Slot) -> None:
        """Work off deliveries in one standing scope, replaced only after a cancel."""
        while True:
            with anyio.CancelScope() as slot.scope:
                while not slot.scope.cancel_called:
                    await self._next(slot)
            if slot.delivery is not None:
                self.handler.cancelled(slot)

    async def _next(self, slot: Slot) -> None:
        while not self.ready:
            slot.wake = anyio.Event()
            self.idle.append(slot)
            await slot.wake.wait()
        slot.delivery = self.ready.popleft()
        if self.ready:
            self._wake(slot.group)
        await within(copy_context(), self.handler.handle(slot))
        slot.delivery = None

    def finished(self) -> None:
        """One delivery less is active."""
        self.active -= 1
        if not self.hungry.is_set():
            self.hungry.set()

    def _settled(self, delivery: Delivery | None) -> None:
        if delivery is not None:
            self.held.pop(delivery.receipt, None)

    # Time.

    async def _keep_time(self) -> None:
        """Cancel what has run too long, and show the lease thread that the loop turns."""
        while True:
            await self.clock.sleep(TURN if self.handler.deadlines else TURN * 10)
            self.leases.heard()
            if self.handler.deadlines:
                self.handler.sweep(self.clock.monotonic())

    async def _follow(self) -> None:
        """Learn which scopes are cancelled, and stop what runs in them."""
        while True:
            try:
                flags = await self.cancelled.follow()
                await self.handler.flush_progress()
            except MotetError as error:
                log.warning("cancelled scopes could not be read: %s", error)
                flags = []
            if flags:
                await self.handler.stop_cancelled()
            await self.clock.sleep(FOLLOW)

    # Stopping.

    async def _drain(self) -> None:
        """Give back what has not started, wait for what runs, then cancel it and give that back too."""
        waiting = [*self.ready, *self.quarantine]
        self.active -= len(self.ready)
        self.ready.clear()
        self.quarantine.clear()
        await self._give_back(waiting)
        with anyio.move_on_after(self.options.grace.total_seconds()):
            while self.active:
                await self._idle_moment()
        left = [slot for slot in self.slots if slot.delivery is not None]
        abandoned = [slot.delivery for slot in left if slot.delivery is not None]
        for slot in left:
            slot.reason = "stop"
            slot.scope.cancel()
        abandoned += self.handler.in_threads
        await self._give_back(abandoned)

    async def _give_back(self, deliveries: list[Delivery]) -> None:
        if not deliveries:
            return
        try:
            await self.backend.transport.release(deliveries)
        except MotetError as error:
            log.warning(
                "%d messages could not be given back; they come back after their lease: %s", len(deliveries), error
            )
        for delivery in deliveries:
            self.held.pop(delivery.receipt, None)
