"""What handles ask of a backend: wait for a run, look at it, cancel it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import attrs
import msgspec

from motet.canvas.plan import Chain, Group, Leaf, Node, Part, Plan
from motet.canvas.records import RUN, RunInfo, barrier_key, control, outcome_key
from motet.engine.plans import Plans
from motet.engine.values import Values
from motet.errors import NotSupported, ResultGone, ResultTimeout, StateLost, TaskCancelled, TaskFailed, UnknownRun
from motet.failpoints import hit
from motet.message import VERSION, Key, Message, Order, Place, Record, State, read_record
from motet.outcome import ErrorInfo
from motet.ports import Backend, Clock
from motet.program import Flag

__all__ = ["Client", "Counts"]

T = TypeVar("T")

BACKSTOP = timedelta(seconds=1)
"""A waiter that was not woken looks again after this: signals may be lost (N2)."""


@attrs.frozen
class Counts:
    """Members of a group, or calls of a run: how many, and how many of them ended how."""

    total: int
    completed: int
    failed: int


@attrs.frozen
class Client:
    """One backend, as handles see it."""

    backend: Backend
    plans: Plans
    values: Values
    clock: Clock

    def shared(self, what: str) -> None:
        """Refuse what another process would have to know.

        Raises:
            NotSupported: The backend's state lives in one process (M14).
        """
        if not self.backend.capabilities.shared:
            advice = f"{what} needs one that processes share, such as sqlite:///motet.db (MOTET_URL overrides the code)"
            raise NotSupported("shared", self.backend.capabilities.name, advice)

    async def decided(self, run: str, place: Place) -> Record | None:
        """Return how a node ended, by its own record only."""
        return await self.values.record(run, place)

    async def wait(self, run: str, place: Place, limit: timedelta | None, known: bool) -> Record:
        """Wait until a node is decided.

        Raises:
            ResultTimeout: It is not, after `limit`.
            UnknownRun: The backend has never heard of the run; `known` says that this process submitted it.
        """
        once = limit is not None and not limit
        if not known or once:  # whoever has just submitted the run would find nothing yet
            record = await self.decided(run, place)
            if record is not None:
                return record
        if limit is not None and once:
            raise ResultTimeout(run, limit)
        start = self.clock.monotonic()
        async with self.backend.signals.subscribe(run) as wakeups:
            looked = known
            while True:
                record = await self.decided(run, place)
                if record is not None:
                    return record
                if not looked:
                    looked = await self.require(run)
                pause = BACKSTOP
                if limit is not None:
                    left = limit.total_seconds() - (self.clock.monotonic() - start)
                    if left <= 0:
                        raise ResultTimeout(run, limit)
                    pause = min(pause, timedelta(seconds=left))
                await wakeups.wait(pause)

    async def require(self, run: str) -> bool:
        """Make sure that a run exists.

        Raises:
            UnknownRun: It does not, or not any more.
        """
        record, outcome = await self.backend.store.get([Key(run, RUN), outcome_key(run, Place("", 0))])
        known = record is not None or outcome is not None or await self.where(run) is not None
        # The last look is for a run that ended between the two before.
        if not known and await self.decided(run, Place("", 0)) is None:
            raise UnknownRun(run)
        return True

    async def value(self, run: str, place: Place, record: Record) -> bytes:
        """Turn an outcome into the value, encoded, or into the exception that it is.

        Raises:
            TaskFailed: The node failed.
            TaskCancelled: It was cancelled.
            ResultGone: Its value is not kept any more, or was never wanted.
        """
        if record.state == State.OK and record.value is None and record.source is None:
            raise ResultGone(run)
        try:
            state, value = await self.values.outcome(self.plans.of(run), place, record)
        except StateLost as lost:
            raise ResultGone(run) from lost
        if state == State.CANCELLED:
            raise TaskCancelled(run, value.message if isinstance(value, ErrorInfo) else "")
        if isinstance(value, ErrorInfo):
            raise TaskFailed(value)
        return value

    async def cancel(self, run: str, place: Place, reason: str) -> None:
        """Ask for the end of a node: one durable message decides, the flag only makes it fast (C16, H6)."""
        message = Message(VERSION, Order.CANCEL, run, place.segment, place.number, detail=reason)
        hit("before_cancel")
        await self.backend.transport.publish([control(message)])
        hit("after_cancel_published")
        last = place.number
        try:
            node = await self.node(run, place)
            last += (1 if isinstance(node, Leaf) else node.span) - 1
        except StateLost:
            pass
        await self.backend.store.flag([Flag(run, place.segment, place.number, last)])

    async def passed_over(self, run: str, place: Place) -> bool:
        """Say whether a node without an outcome will never have one: something around it is decided."""
        around = await self.ask(run, lambda plan: list(plan.above(place)))
        records = await self.backend.store.get([outcome_key(run, outer) for outer in around])
        return any(record is not None for record in records) and await self.decided(run, place) is None

    async def node(self, run: str, place: Place) -> Node:
        """Look a node up in the run's plan.

        Raises:
            StateLost: The run keeps no plan: it is one call, or is gone.
        """
        return await self.ask(run, lambda plan: plan.node(place))

    async def ask(self, run: str, question: Callable[[Plan], T]) -> T:
        """Ask about a run's plan."""
        return await self.plans.ask(self.plans.of(run), question)

    async def info(self, run: str) -> RunInfo | None:
        """Read a run's own record; a single call has none."""
        (raw,) = await self.backend.store.get([Key(run, RUN)])
        return None if raw is None else msgspec.msgpack.decode(raw, type=RunInfo)

    async def where(self, run: str) -> str | None:
        """Say where messages of the run are."""
        return (await self.backend.transport.find([run]))[0]

    async def children(self, run: str, place: Place) -> list[Place]:
        """The members of a group, or the steps of a chain, in order; parts of wide groups are looked through."""
        found: list[Place] = []
        for child, node in await self.ask(run, lambda plan: list(plan.children(place, plan.node(place)))):
            found += await self.children(run, child) if isinstance(node, Part) else [child]
        return found

    async def arrived(self, run: str, place: Place) -> list[Place]:
        """The members of a group that have ended, in the order in which they did."""
        children = await self.ask(run, lambda plan: list(plan.children(place, plan.node(place))))
        (barrier,) = await self.backend.store.barriers([barrier_key(run, place)])
        if not any(isinstance(node, Part) for _, node in children):
            return [] if barrier is None else [children[slot][0] for slot in barrier.arrived]
        return [member for part, _ in children for member in await self.arrived(run, part)]

    async def counts(self, run: str, place: Place) -> Counts:
        """Count a group's members by its barriers, not by its members: 391 of them for 100,000 (M12)."""
        node = await self.node(run, place)
        assert isinstance(node, Group | Part)
        (barrier,) = await self.backend.store.barriers([barrier_key(run, place)])
        children = await self.ask(run, lambda plan: list(plan.children(place, plan.node(place))))
        if not any(isinstance(child, Part) for _, child in children):
            done = (0, 0) if barrier is None else (len(barrier.arrived), barrier.failed)
            return Counts(node.count, *done)
        parts = [await self.counts(run, child) for child, _ in children]
        return Counts(
            sum(part.total for part in parts), sum(part.completed for part in parts), sum(part.failed for part in parts)
        )

    async def said(self, run: str, place: Place) -> tuple[int, int] | None:
        """What the call at a node last said of its progress, while it has not ended."""
        raw, ended = await self.backend.store.get([Key(run, f"g.{place}"), outcome_key(run, place)])
        if raw is None or ended is not None:
            return None
        done, total = msgspec.msgpack.decode(raw, type=tuple[int, int])
        return done, total

    async def progress(self, run: str, place: Place) -> Counts:
        """Count the calls below a node that have ended; derived from records, so duplicates cannot inflate it."""
        node = await self.node(run, place)
        record = await self.decided(run, place)
        leaves = await self.ask(run, lambda plan: _leaves(plan, place, node))
        if record is not None:
            return Counts(leaves, leaves if record.state == State.OK else 0, int(record.state != State.OK))
        if isinstance(node, Group | Part) and node.count and leaves == (await self.counts(run, place)).total:
            return await self.counts(run, place)
        if isinstance(node, Leaf):
            return Counts(1, 0, 0)
        return await self._sum(run, place, node, leaves)

    async def _sum(self, run: str, place: Place, node: Node, leaves: int) -> Counts:
        children = await self.ask(run, lambda plan: list(plan.children(place, plan.node(place))))
        records = await self.backend.store.get([outcome_key(run, child) for child, _ in children])
        completed = failed = 0
        for (child, below), raw in zip(children, records, strict=True):
            record = None if raw is None else read_record(raw)
            if record is None and isinstance(node, Chain) and isinstance(below, Leaf):
                break
            part = await self.progress(run, child) if not isinstance(below, Leaf) else None
            completed += part.completed if part else int(record is not None)
            failed += part.failed if part else int(record is not None and record.state != State.OK)
        return Counts(leaves, completed, failed)


def _leaves(plan: Plan, place: Place, node: Node) -> int:
    """Count the calls below a node, as far as that needs no page beyond its own."""
    if isinstance(node, Leaf):
        return 1
    if isinstance(node, Group | Part) and node.span == node.count + 1:
        return node.count
    header = plan.header(place.segment)
    return (
        header.leaves if place.number == 0 else sum(_leaves(plan, child, n) for child, n in plan.children(place, node))
    )
