"""What evaluates a term: the pure engine over a world of dicts, or a real worker on a real backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal

from motet import Motet, TaskFailed, Term
from motet.canvas import advance
from motet.canvas.compile import Origin, compile_term
from motet.canvas.plan import Leaf, Part, Plan
from motet.canvas.records import RunInfo, outcome_key
from motet.conformance.algebra import Err, Meaning, Ok, app
from motet.memory.clock import VirtualClock
from motet.memory.world import World
from motet.message import Message, Order, Place, Record, State, pack, read_message, read_record
from motet.options import CONTROL, Lane
from motet.outcome import ErrorInfo
from motet.ports import Entry

LANES = [CONTROL, Lane("default", "medium", 1)]


class Engine(Protocol):
    """Runs a term, and says what came out."""

    def evaluate(self, term: Term[Any, Any]) -> Meaning: ...


class PureEngine:
    """The step function alone, driven by hand: no loop, no worker, no codec but the wire's."""

    def evaluate(self, term: Term[Any, Any]) -> Meaning:
        clock = VirtualClock()
        world = World(clock, timedelta(seconds=15))
        compiled = compile_term(term, Origin(run="run"), app.registry, ttl=60.0)
        self.plan = Plan("run")
        for number, page in enumerate((compiled.first, *compiled.rest)):
            self.plan.add("", number, page.body)
        info = RunInfo("", compiled.header.size, compiled.header.leaves, 0.0, 60.0)
        world.settle(Entry(advance.launch(self.plan, clock.now(), info, page=compiled.first.body)))
        while taken := world.letters.take(LANES, 1):
            message = read_message(taken[0].body)
            if message.run != "run":
                continue  # a callback is a run of its own
            assert not world.settle(Entry(self.program(world, message), taken[0])).conflicts
        return self.meaning(world, Place("", 0))

    def program(self, world: World, message: Message) -> Any:
        now = world.clock.now()
        if message.order == Order.EXPAND:
            return advance.expand(self.plan, message.place, advance.Fed(message.value, message.source), now)
        if message.order == Order.RESUME:
            raw = world.records.get(outcome_key("run", message.place))
            assert raw is not None
            return advance.resume(self.plan, message.place, read_record(raw), now)
        if message.order != Order.RUN:
            return ()
        return advance.decided(self.plan, message.place, self.outcome(world, message), now)

    def outcome(self, world: World, message: Message) -> Record:
        node = self.plan.node(message.place)
        assert isinstance(node, Leaf)
        task = self.plan.profile(message.place, node).task
        arguments = msgspec.msgpack.decode(node.call)
        given = arguments.get("args", [arguments[name] for name in ("value", "error") if name in arguments])
        if node.feed and (message.value is not None or message.source is not None):
            given = [self.input(world, message), *given]
        if task == "laws:boom":
            return Record(State.ERR, error=ErrorInfo(kind="exception", message=f"boom {given[-1]}"))
        value = ["rescued"] if task == "laws:rescue" else given[0] if task == "laws:identity" else given
        return Record(State.OK, pack(value))

    def input(self, world: World, message: Message) -> Any:
        if message.value is not None:
            return msgspec.msgpack.decode(message.value)
        assert message.source is not None
        found = self.meaning(world, message.source.place)
        return found.value if isinstance(found, Ok) else "error"

    def meaning(self, world: World, place: Place) -> Meaning:
        raw = world.records.get(outcome_key("run", place))
        assert raw is not None, f"node {place} was never decided"
        record = read_record(raw)
        if record.error is not None:
            return Err((record.error.message.removeprefix("boom "),))
        if record.source is None:
            assert record.value is not None
            return Ok(msgspec.msgpack.decode(record.value))
        if record.source.place != place:
            return self.meaning(world, record.source.place)
        members = [self.meaning(world, member) for member in self.members(place)]
        if record.state == State.OK:
            return Ok([member.value for member in members if isinstance(member, Ok)])
        return Err(tuple(name for member in members if isinstance(member, Err) for name in member.leaves))

    def members(self, place: Place) -> Iterator[Place]:
        for child, node in self.plan.children(place, self.plan.node(place)):
            if isinstance(node, Part):
                yield from self.members(child)
            else:
                yield child


class WorkerEngine:
    """A real worker on a real backend, in a loop of its own."""

    def __init__(self, portal: BlockingPortal, running: Motet) -> None:
        self.portal = portal
        self.running = running

    def evaluate(self, term: Term[Any, Any]) -> Meaning:
        meaning: Meaning = self.portal.call(self._evaluate, term)
        return meaning

    async def _evaluate(self, term: Term[Any, Any]) -> Meaning:
        handle = self.running.handle_of((await self.running.submitter.submit(term, {}))[0], term)
        try:
            return Ok(plain(await handle.result(timeout=20)))
        except TaskFailed as failed:
            return Err(tuple(failed_leaves(failed.error)))


def failed_leaves(error: ErrorInfo) -> Iterator[str]:
    if error.kind != "group":
        yield error.message.removeprefix("boom ")
    for cause in error.causes:
        yield from failed_leaves(cause)


def plain(value: Any) -> Any:
    """Forget what a handler was told: the laws say only that it was called."""
    return value


@contextmanager
def worker_engine(url: str) -> Iterator[WorkerEngine]:
    """Run a worker for as long as the context is open."""
    running = Motet(url, result_ttl=60)
    running.registry.definitions = app.registry.definitions
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        stack.enter_context(portal.wrap_async_context_manager(running))
        stack.enter_context(portal.wrap_async_context_manager(running.worker()))
        yield WorkerEngine(portal, running)


@contextmanager
def engine(kind: str, folder: Path) -> Iterator[Engine]:
    """Open an engine by name."""
    if kind == "pure":
        yield PureEngine()
        return
    urls = {"memory": "memory://", "ordered": "memory://?settle=ordered", "sqlite": f"sqlite:///{folder}/laws.db"}
    with worker_engine(urls[kind]) as running:
        yield running


__all__ = ["Engine", "PureEngine", "WorkerEngine", "engine"]
