"""Actors: clients and workers that may die at any call, and their way to the world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from faults import BATCHES, IDLE, Fault, Weather
from witness import Holder, Witness

from motet.capabilities import Capabilities
from motet.engine.ordered import OrderedSettler
from motet.errors import Unavailable
from motet.memory import MemoryBackend
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Delivery, Entry
from motet.program import Flag, Once, Open, Put

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
        self.ordered = ordered
        self.capabilities = Capabilities(
            name="memory", shared=True, atomic=not ordered, durable=False, locks=True, events=True
        )
        inner = MemoryBackend(self.world)
        self.transport: Any = TransportWire(self, inner.transport)
        self.store: Any = StoreWire(self, inner.store)
        self.timers: Any = Wire(self, inner.timers)
        self.schedules: Any = Wire(self, inner.schedules, "schedules.")
        self.deadletters: Any = Wire(self, inner.deadletters, "deadletters.")
        self.workers: Any = Wire(self, inner.workers, "workers.")
        self.locks: Any = Wire(self, inner.locks, "locks.")
        self.signals: Any = inner.signals
        self.events: Any = inner.events
        self.settler: Any = Wire(self, inner.settler)
        if ordered:
            self.settler = OrderedSettler(self.transport, self.store, self.timers, self.deadletters, self.locks)

    async def call(self, op: str, work: Callable[[Any], Awaitable[T]], given: Any = None) -> T:
        """Make a call: wait, apply it, wait; or whatever the weather makes of it. `given` is what may be torn apart."""
        actor, weather = self.actor, self.host.weather
        if not actor.alive:
            raise Crashed
        fault = weather.draw(op, actor.role)
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
                if held := sorted(world.letters.held):
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
        letters = self.world.letters
        letters.held[receipt].until = letters.next_expiry = self.world.clock.monotonic()
        letters.wake_receivers()

    def note_trouble(self, op: str) -> None:
        """A call failed after which deliveries may be left to their leases."""
        if op in ("extend", "release", "ack"):
            self.actor.troubled = self.world.clock.monotonic()


class Wire:
    """One port, as an actor reaches it."""

    def __init__(self, edge: Edge, port: Any, prefix: str = "") -> None:
        self.edge = edge
        self.port = port
        self.prefix = prefix

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.port, name)

        async def call(given: Any = None, *args: Any, **kwargs: Any) -> Any:
            if given is None:
                return await self.edge.call(self.prefix + name, lambda _: method())
            return await self.edge.call(self.prefix + name, lambda part: method(part, *args, **kwargs), given)

        self.__dict__[name] = call
        return call


class TransportWire(Wire):
    """The transport: what it hands out is the actor's from then on."""

    async def receive(self, lanes: Sequence[Lane], limit: int, wait: timedelta) -> list[Delivery]:
        taken: list[Delivery] = await self.edge.call("receive", lambda part: self.port.receive(part, limit, wait), lanes)
        for delivery in taken:
            self.edge.world.handed(delivery, self.edge.actor)
        return taken

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        """Renew leases; whoever is dead learns nothing."""
        actor, weather = self.edge.actor, self.edge.host.weather
        if not actor.alive:
            return [True for _ in receipts]
        fault = weather.draw("extend", actor.role)
        if fault is not None:
            self.edge.note_trouble("extend")
        if fault is Fault.CRASH_BEFORE:
            actor.crash("before extend")
            raise Crashed
        if fault is Fault.REFUSED:
            raise Unavailable("extend refused")
        kept: list[bool] = self.port.extend(receipts)
        if fault is Fault.CRASH_AFTER:
            actor.crash("after extend")
            raise Crashed
        if fault is Fault.LOST_REPLY:
            raise Unavailable("the reply to extend was lost")
        return kept


class StoreWire(Wire):
    """The store: whoever has read the flags knows them."""

    async def flags(self, since: str | None) -> tuple[str, list[Flag]]:
        read_at = 0.0

        async def work(_: Any) -> Any:
            nonlocal read_at
            read_at = self.edge.world.clock.monotonic()
            return await self.port.flags(since)

        answer: tuple[str, list[Flag]] = await self.edge.call("flags", work)
        self.edge.actor.knows = read_at
        return answer


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
