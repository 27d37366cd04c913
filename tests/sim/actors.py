"""Actors: clients and workers that may die at any call, and their way to the world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from faults import BATCHES, IDLE, Fault, Weather
from witness import Holder, Witness

from motet.capabilities import Capabilities
from motet.engine.ordered import OrderedSettler
from motet.errors import NotSupported, Unavailable
from motet.memory import MemoryBackend
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Barrier, Delivery, Entry, Locks, QueueInfo, Reply, Settler
from motet.program import Arrival, Flag, Once, Open, Put

__all__ = ["Actor", "Crashed", "Edge", "Host", "acting"]

T = TypeVar("T")


class Crashed(BaseException):
    """The actor is dead: nothing that it does from here on reaches anybody."""


class Host(Protocol):
    """What an actor needs of its schedule."""

    world: Witness
    weather: Weather
    lease: float
    tracing: bool

    def note(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        ...

    def restart(self) -> None:
        """Kill everybody."""
        ...


class Actor(Holder):
    """One client or worker process."""

    def __init__(self, host: Host, name: str, role: str) -> None:
        self.host = host
        self.name = name
        self.role = role
        self.alive = True
        self.troubled = float("-inf")
        self.asleep = 0.0
        self.knows = float("-inf")
        """When the flags that it has read were read."""
        self.task: asyncio.Task[None] | None = None

    def start(self, life: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Live."""

        async def lived() -> None:
            acting.set(self)
            await life

        self.task = asyncio.get_running_loop().create_task(lived())
        return self.task

    def crash(self, why: str) -> None:
        """Die: from now on no call of this actor has any effect."""
        if self.alive:
            self.host.note(self.name, f"dies: {why}")
            self.alive = False
            if self.task is not None:
                asyncio.get_running_loop().call_soon(self.task.cancel)

    def pause(self, seconds: float) -> None:
        """Stand still."""
        self.asleep = max(self.asleep, self.host.world.clock.monotonic() + seconds)
        self.troubled = self.asleep

    async def awake(self) -> None:
        """Wait until the actor moves again.

        Raises:
            Crashed: It never will.
        """
        while self.alive and (left := self.asleep - self.host.world.clock.monotonic()) > 0:
            await asyncio.sleep(left)
        if not self.alive:
            raise Crashed


acting: ContextVar[Actor] = ContextVar("acting")


class Edge:
    """One actor's backend: every call takes time, and may go wrong."""

    def __init__(self, actor: Actor, *, ordered: bool) -> None:
        self.actor = actor
        self.host = actor.host
        self.world = actor.host.world
        self.inner = MemoryBackend(self.world, ordered=False)
        self.ordered = ordered
        self.capabilities = Capabilities(name="memory", shared=True, atomic=not ordered, durable=False)
        self.transport = self
        self.store = self
        self.timers = self
        self.signals = self
        self.settler: Settler = OrderedSettler(self, self, self) if ordered else self

    @property
    def locks(self) -> Locks:
        raise NotSupported("locks", "memory")

    async def call(self, op: str, work: Callable[[Any], Awaitable[T]], given: Any = None) -> T:
        """Make a call: wait, apply it, wait; or whatever the weather makes of it. `given` is what may be torn apart."""
        actor, weather = self.actor, self.host.weather
        if not actor.alive:
            raise Crashed
        fault = weather.draw(op, actor.role, not self.ordered)
        if wait := weather.wait():
            await asyncio.sleep(wait)
        if actor.asleep or not actor.alive:
            await actor.awake()
        if fault is not None:
            self.host.note(actor.name, f"{op}: {fault}")
            await self.struck(fault, op, work, given)
        if self.host.tracing and op not in IDLE:
            self.host.note(actor.name, f"  {op} {told(given)}")
        result = await work(given)
        if fault is not None:
            self.aftermath(fault, op, given)
        if wait := weather.wait():
            await asyncio.sleep(wait)
        if actor.asleep or not actor.alive:
            await actor.awake()
        return result

    async def struck(self, fault: Fault, op: str, work: Callable[[Any], Awaitable[Any]], given: Any) -> None:
        """Suffer a fault before the call is applied."""
        actor, rng = self.actor, self.host.weather.rng
        match fault:
            case Fault.CRASH_BEFORE:
                actor.crash(f"before {op}")
                raise Crashed
            case Fault.REFUSED:
                self.note_trouble(op)
                raise Unavailable(f"{op} refused")
            case Fault.TORN | Fault.PARTIAL:
                if op in BATCHES and len(given) > 1:
                    await work(given[: rng.randrange(1, len(given))])
                if fault is Fault.PARTIAL:
                    self.note_trouble(op)
                    raise Unavailable(f"{op} broke off")
                actor.crash(f"within {op}")
                raise Crashed
            case Fault.DELAY:
                await asyncio.sleep(rng.expovariate(1 / 0.3))
                await actor.awake()
            case Fault.PAUSE if rng.random() < 0.5:
                actor.pause(self.host.lease * (0.3 + 1.5 * rng.random()))
                await actor.awake()
            case _:
                pass

    def aftermath(self, fault: Fault, op: str, given: Any) -> None:
        """Suffer a fault after the call has been applied."""
        actor, rng, world = self.actor, self.host.weather.rng, self.world
        match fault:
            case Fault.CRASH_AFTER:
                actor.crash(f"after {op}")
                raise Crashed
            case Fault.LOST_REPLY:
                self.note_trouble(op)
                if op == "strike":
                    world.returned[given.id] += 1  # it will be counted again
                raise Unavailable(f"the reply to {op} was lost")
            case Fault.PAUSE:
                actor.pause(self.host.lease * (0.3 + 1.5 * rng.random()))
            case Fault.LEASE_LOSS:
                if held := sorted(world.held):
                    self.lose(rng.choice(held))
            case Fault.DUPLICATE:
                if known := world.copyable():
                    world.copy(rng.choice(known))
            case Fault.RESTART:
                self.host.restart()
                raise Crashed
            case _:
                pass

    def lose(self, receipt: str) -> None:
        """End a lease now."""
        self.world.excused.add(receipt)
        self.world.held[receipt].until = self.world.clock.monotonic()
        self.world.next_expiry = self.world.clock.monotonic()
        self.world.wake_receivers()

    def note_trouble(self, op: str) -> None:
        """A call failed after which deliveries may be left to their leases."""
        if op in ("extend", "release", "ack"):
            self.actor.troubled = self.world.clock.monotonic()

    # Transport.

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        await self.call("publish", self.inner.publish, parcels)

    async def receive(self, lanes: Sequence[Lane], limit: int, wait: timedelta) -> list[Delivery]:
        async def work(_: Any) -> list[Delivery]:
            return await self.inner.receive(lanes, limit, wait)

        taken = await self.call("receive", work)
        for delivery in taken:
            self.world.handed(delivery, self.actor)
        return taken

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        actor, weather = self.actor, self.host.weather
        if not actor.alive:
            return [True for _ in receipts]
        fault = weather.draw("extend", actor.role, not self.ordered)
        if fault in (Fault.REFUSED, Fault.CRASH_BEFORE):
            self.note_trouble("extend")
        if fault is Fault.CRASH_BEFORE:
            actor.crash("before extend")
            raise Crashed
        if fault is Fault.REFUSED:
            raise Unavailable("extend refused")
        kept = self.world.extend(receipts)
        if fault is Fault.CRASH_AFTER:
            actor.crash("after extend")
            raise Crashed
        if fault is Fault.LOST_REPLY:
            raise Unavailable("the reply to extend was lost")
        return kept

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self.call("ack", self.inner.ack, deliveries)

    async def release(self, deliveries: Sequence[Delivery], delay: timedelta = timedelta()) -> None:
        async def work(deliveries: Sequence[Delivery]) -> None:
            await self.inner.release(deliveries, delay)

        await self.call("release", work, deliveries)

    async def strike(self, delivery: Delivery) -> int:
        return await self.call("strike", self.inner.strike, delivery)

    async def find(self, runs: Sequence[str]) -> list[str | None]:
        return await self.call("find", self.inner.find, runs)

    async def queues(self) -> list[QueueInfo]:
        return await self.call("queues", lambda _: self.inner.queues())

    async def pause(self, queue: str, *, paused: bool = True) -> None:
        await self.call("pause", lambda _: self.inner.pause(queue, paused=paused))

    # Store.

    async def put_once(self, records: Sequence[Once]) -> list[bytes | None]:
        return await self.call("put_once", self.inner.put_once, records)

    async def put(self, records: Sequence[Put]) -> None:
        await self.call("put", self.inner.put, records)

    async def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        return await self.call("get", self.inner.get, keys)

    async def drop(self, keys: Sequence[Key]) -> None:
        await self.call("drop", self.inner.drop, keys)

    async def open(self, barriers: Sequence[Open]) -> None:
        await self.call("open", self.inner.open, barriers)

    async def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        return await self.call("arrive", lambda _: self.inner.arrive(key, slot, failed), key)

    async def barriers(self, keys: Sequence[Key]) -> list[Barrier | None]:
        return await self.call("barriers", self.inner.barriers, keys)

    async def flag(self, scopes: Sequence[Flag]) -> None:
        async def work(scopes: Sequence[Flag]) -> None:
            for scope in scopes:
                self.world.flag(scope)
            await self.inner.flag(scopes)

        await self.call("flag", work, scopes)

    async def flags(self, since: str | None) -> tuple[str, list[Flag]]:
        read_at = 0.0

        async def work(_: Any) -> tuple[str, list[Flag]]:
            nonlocal read_at
            read_at = self.world.clock.monotonic()
            return await self.inner.flags(since)

        answer = await self.call("flags", work)
        self.actor.knows = read_at
        return answer

    async def names(self, run: str, prefix: str) -> list[str]:
        return await self.call("names", lambda _: self.inner.names(run, prefix))

    async def sweep(self, run: str, limit: int) -> bool:
        return await self.call("sweep", lambda _: self.inner.sweep(run, limit), [Key(run, "")])

    async def runs(self, before: str | None, limit: int) -> list[tuple[str, bytes]]:
        return await self.call("runs", lambda _: self.inner.runs(before, limit))

    # Timers, signals, settler.

    async def park(self, parcels: Sequence[Parcel]) -> None:
        await self.call("park", self.inner.park, parcels)

    async def cancel(self, ids: Sequence[str]) -> list[bool]:
        return await self.call("cancel", self.inner.cancel, ids)

    @asynccontextmanager
    async def subscribe(self, run: str) -> AsyncGenerator[Any]:
        async with self.inner.subscribe(run) as wakeups:
            yield wakeups

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        return await self.call("settle", self.inner.settle, entries)


def told(given: Any) -> str:
    """Say in a few words what a call is about."""
    if isinstance(given, list | tuple) and not isinstance(given, Key):
        return ", ".join(told(each) for each in given[:8])
    match given:
        case Key():
            return f"{given.run}/{given.name}"
        case Once() | Put() | Open():
            return told(given.key)
        case Parcel() | Delivery():
            return given.id
        case Entry():
            return told(given.delivery) if given.delivery else "a submit"
        case _:
            return ""
