"""What a contract test works with: clients of one broker, a clock, and names that nobody else uses."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio

from motet.app import Motet
from motet.conformance.faults import Fault
from motet.errors import Unavailable
from motet.identity import shorten
from motet.memory.clock import VirtualClock
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Backend, Clock, Delivery, Entry, Reply, Settings, Settlement
from motet.program import Flag, Op
from motet.worker.loop import Worker

if TYPE_CHECKING:
    from motet.conformance.contract import Contract

__all__ = ["NOW", "SOON", "Stage", "Undeclared", "Unproven"]

NOW = timedelta()
SOON = timedelta(seconds=10)
"""Long enough for whatever happens at all; nothing waits so long when all is well."""
RESTART = timedelta(seconds=40)
"""So long a broker that was restarted may refuse its clients."""

FLAGS_LATE = 1.5
"""Seconds after which a flag must have been seen, with what the way there and back may take."""

_numbers = itertools.count()


class Unproven(Exception):
    """Raised when a clause cannot be tested on this backend; the report says so."""


class Undeclared(Unproven):
    """Raised when a clause is not promised, because its capability is not declared."""


class Stage:
    """Two clients, `a` and `b`, of the broker under test, and more on demand.

    Others may use the same broker at the same time: a test looks at names of its own only.
    """

    def __init__(self, contract: Contract, fault: Fault, lease: timedelta, clock: Clock, stack: AsyncExitStack) -> None:
        self.contract = contract
        self.fault = fault
        self.clock = clock
        self.lease = lease
        self._stack = stack
        self._name = "t" + shorten(os.getpid(), 4) + shorten(next(_numbers), 4)
        self.queue: str = self.name("q")
        self.other: str = self.name("other")
        self.run: str = self.name("run")
        self.high: Lane = Lane(self.queue, "small", 0)
        self.low: Lane = Lane(self.queue, "small", 2)
        self.aside: Lane = Lane(self.other, "large", 1)
        self.lanes: Sequence[Lane] = (self.high, self.low, self.aside)
        self.worked: Sequence[Lane] = (Lane(self.queue, "medium", 1),)
        self.a: Backend
        self.b: Backend

    @classmethod
    @asynccontextmanager
    async def open(cls, contract: Contract, fault: Fault, lease: timedelta) -> AsyncGenerator[Stage]:
        """Open a stage with its two clients."""
        async with AsyncExitStack() as stack:
            clock = contract.clock()
            if isinstance(clock, VirtualClock):
                group = await stack.enter_async_context(anyio.create_task_group())
                stack.callback(group.cancel_scope.cancel)
                group.start_soon(clock.run)
            stage = cls(contract, fault, lease, clock, stack)
            stage.a = await stage.connect()
            stage.b = await stage.connect()
            yield stage

    # Clients.

    async def connect(self, namespace: str = "") -> Backend:
        """Open one more client; it is closed with the stage."""
        return await self._stack.enter_async_context(self.client(namespace))

    @asynccontextmanager
    async def client(self, namespace: str = "") -> AsyncGenerator[Backend]:
        """Open one more client for as long as the context is open; a namespace has one lease."""
        name = namespace or ("contract" if self.lease == self.contract.lease else "patient")
        settings = Settings(namespace=name, lease=self.lease, clock=self.clock)
        async with self.contract.connect(settings) as backend:
            yield self.fault.between(backend)

    async def restart(self) -> None:
        """Restart the broker under the open clients, and wait until it serves both: that may take it half a minute."""
        await self.contract.restart()
        give_up = self.now + RESTART.total_seconds()
        for backend in (self.a, self.b):
            while True:
                try:
                    await backend.store.get([self.key("served")])
                    break
                except Unavailable:
                    if self.now > give_up:
                        raise
                    await self.sleep(0.1)

    def stretched(self, seconds: float) -> float:
        """Stretch a time within which a test does something, as much as its broker's lease is longer than 0.5 s."""
        return seconds * max(1.0, self.contract.lease / timedelta(seconds=0.5))

    # Names and values.

    def name(self, what: str) -> str:
        """Return a name that only this stage uses."""
        return f"{self._name}{what}"

    def key(self, name: str, run: str = "") -> Key:
        """Return the key of a record of this stage's run."""
        return Key(run or self.run, name)

    def parcel(
        self,
        name: str,
        lane: Lane | None = None,
        *,
        body: bytes = b"body",
        due: float | None = None,
        suspect: bool = False,
    ) -> Parcel:
        """Make a parcel; `due` counts from now, in seconds."""
        when = None if due is None else self.clock.now() + timedelta(seconds=due)
        return Parcel(self.id(name), lane or self.high, body, when, suspect)

    def id(self, name: str) -> str:
        """Return the id that `parcel` gives: its run is this stage's, with what stands before the colon."""
        return f"{self.run}{name}"

    def named(self, ids: Sequence[str]) -> list[str]:
        """Return names as the test wrote them."""
        return [each.removeprefix(self.run) for each in ids]

    # What most tests do.

    async def take(
        self,
        backend: Backend,
        lanes: Sequence[Lane] | None = None,
        limit: int = 10,
        wait: timedelta = SOON,
        *,
        paused: bool = False,
    ) -> list[Delivery]:
        """Receive from this stage's lanes."""
        if paused:
            return await backend.transport.receive(lanes or self.lanes, limit, wait, paused=True)
        return await backend.transport.receive(lanes or self.lanes, limit, wait)

    async def prepare(self) -> None:
        """Have this stage's lanes made, for a test that is about times: who uses one first may make it, and slowly."""
        for backend in (self.a, self.b):
            await self.take(backend, wait=NOW)

    async def one(self, backend: Backend, wait: timedelta = SOON) -> Delivery:
        """Receive the one message that is there."""
        [delivery] = await self.take(backend, wait=wait)
        return delivery

    async def taken(self, backend: Backend, wait: timedelta = NOW, **options: Any) -> list[str]:
        """Receive, and return the names."""
        return self.named([each.id for each in await self.take(backend, wait=wait, **options)])

    async def settle(
        self, backend: Backend, *program: Op, delivery: Delivery | None = None, release: str = ""
    ) -> Reply:
        """Settle one entry; conflicts are a tuple in the answer, whatever the backend made of them."""
        settlement = Settlement(self.run, "", 0, 1, None, release) if release else None
        [reply] = await backend.settler.settle([Entry(program, delivery, settlement)])
        return Reply(tuple(reply.conflicts), reply.lost)

    async def read(self, backend: Backend, name: str) -> bytes | None:
        """Read a record of this stage's run."""
        [value] = await backend.store.get([self.key(name)])
        return value

    async def flagged(self, backend: Backend, since: str | None, count: int) -> tuple[str, set[Flag]]:
        """Read flags after a cursor until so many of this stage's run have come, at the latest in a second (S9)."""
        found: set[Flag] = set()
        give_up = self.now + FLAGS_LATE
        while True:
            since, flags = await backend.store.flags(since)
            found |= {flag for flag in flags if flag.run == self.run}
            if len(found) >= count or self.now >= give_up:
                return since, found
            await self.sleep(0.05)

    async def sleep(self, seconds: float) -> None:
        """Wait, by the clock of the backend."""
        await self.clock.sleep(seconds)

    async def outlive_lease(self) -> None:
        """Wait until a lease that begins now is over."""
        await self.sleep(self.lease.total_seconds() * 1.3 + 0.05)

    @property
    def now(self) -> float:
        """Seconds on the clock of the backend."""
        return self.clock.monotonic()

    # Workflows.

    def app(self, backend: Backend | None = None, **settings: Any) -> Motet:
        """Make an app on a client of this stage; its tasks may have any name."""
        app = Motet("memory://", lease=self.lease, clock=self.clock, **settings)
        app.attach(backend or self.a)
        return app

    @asynccontextmanager
    async def worker(self, app: Motet, **options: Any) -> AsyncGenerator[Worker]:
        """Run a worker of an app for as long as the context is open."""
        virtual = isinstance(self.clock, VirtualClock)
        chosen = {"queues": (self.queue,), "lease_thread": not virtual, "grace": NOW, **options}
        async with anyio.create_task_group() as group:
            worker = app.make_worker(**chosen)
            group.start_soon(worker.serve)
            if virtual:
                group.start_soon(self.renew, worker)
            try:
                yield worker
            finally:
                worker.stop()
                if virtual:
                    group.cancel_scope.cancel()

    async def renew(self, worker: Worker) -> None:
        """Renew a worker's leases in the time of this clock, which its thread does not know."""
        while True:
            await self.clock.sleep(worker.leases.interval)
            worker.leases.renew()
