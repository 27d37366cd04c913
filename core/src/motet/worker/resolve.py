"""From a delivery to a job: which task, with which arguments, and whether it shall run at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from motet.canvas.plan import Leaf, Plan, Profile, page_key
from motet.canvas.records import attempt_key, closed_key, outcome_key, single, splice_key
from motet.engine.plans import Plans
from motet.engine.values import Values
from motet.errors import DecodeError, StateLost
from motet.message import Key, Message, Place
from motet.outcome import ErrorInfo, Failure, Kind
from motet.ports import Clock, Delivery
from motet.registry import Registry
from motet.task import Definition
from motet.worker.cancelled import CancelledScopes

__all__ = ["Decided", "Job", "Resolver", "Skip"]


class Job(msgspec.Struct, gc=False):
    """One attempt, ready to run."""

    delivery: Delivery
    message: Message
    plan: Plan
    leaf: Leaf
    profile: Profile
    place: Place
    definition: Definition | None = None
    value: bytes | None = None
    call: bytes | msgspec.Raw = b""


class Skip(Exception):
    """There is nothing to run: the run is over, cancelled, or further on. The message is acknowledged."""


class Decided(Exception):
    """The node has a record already, or a replacement: propagate that instead of running again."""

    def __init__(self, key: Key, stored: bytes) -> None:
        self.key = key
        self.stored = stored
        super().__init__(key, stored)


class Resolver:
    """Finds everything that an attempt needs."""

    def __init__(self, registry: Registry, plans: Plans, values: Values, cancelled: CancelledScopes) -> None:
        self.registry = registry
        self.plans = plans
        self.values = values
        self.cancelled = cancelled

    def look(self, delivery: Delivery, message: Message) -> Job | None:
        """Look at the node of a fresh message that carries its plan; None when there is more to read than that.

        Raises:
            DecodeError: The plan is damaged.
        """
        if delivery.suspect or not message.plan or message.run in self.cancelled.runs:
            return None
        plan = Plan(message.run)
        plan.add(message.segment, 0, message.plan)
        page = plan.page(message.segment, 0)
        leaf = page.nodes[message.node] if message.node < len(page.nodes) else None
        if not isinstance(leaf, Leaf):
            return None
        return Job(delivery, message, plan, leaf, page.profiles[leaf.profile], call=leaf.call, place=message.place)

    async def job(self, delivery: Delivery, message: Message) -> Job:
        """Look at the node of a message.

        Raises:
            Skip, Decided: It shall not run.
            DecodeError: Its plan is damaged.
        """
        plan = self.plans.of(message.run, message.segment, message.plan)
        place = Place(message.segment, message.node)
        try:
            node = plan.node(place) if message.plan else await self.plans.ask(plan, lambda known: known.node(place))
            if not isinstance(node, Leaf):
                raise DecodeError(f"node {place} of run {message.run} is no call")
            # What is known of the segment as a whole: a task that goes on with another term must know how deep it is.
            await self.plans.ask(plan, lambda known: known.header(place.segment))
            if delivery.suspect:
                await self.look_back(plan, message)
            if message.run in self.cancelled.runs and await self.plans.ask(
                plan, lambda known: self.cancelled.covers(known, place)
            ):
                raise Skip
        except StateLost as lost:
            raise Skip(str(lost)) from lost
        return Job(delivery, message, plan, node, plan.profile(place, node), call=node.call, place=place)

    async def covered(self, job: Job) -> bool:
        """Say whether the scope of an attempt in progress has been cancelled."""
        try:
            return await self.plans.ask(job.plan, lambda known: self.cancelled.covers(known, job.place))
        except StateLost:
            return True

    async def look_back(self, plan: Plan, message: Message) -> None:
        """Read what became of a node whose message may have been run before (C3), and of the scopes around it (H6).

        A run that has no plan any more has been swept: nothing of it may begin again from a message that was left.
        """
        run, place = message.run, message.place
        around = await self.plans.ask(plan, lambda known: list(known.above(place)))
        whole = await self.plans.ask(plan, single) is None
        keys = [
            outcome_key(run, place),
            splice_key(run, place),
            attempt_key(run, place, message.attempt + 1),
            *(closed_key(run, outer) for outer in around),
            page_key(run, "", 0),
        ]
        outcome, splice, *passed, known = await self.values.store.get(keys)
        if splice is not None:
            raise Decided(keys[1], splice)
        if outcome is not None:
            raise Decided(keys[0], outcome)
        if any(mark is not None for mark in passed) or (whole and known is None):
            raise Skip

    def check(self, job: Job, clock: Clock) -> Failure | None:
        """Add the task and the input that travelled; return why it cannot run, if so."""
        profile = job.profile
        if profile.expires is not None and profile.expires < clock.now().timestamp():
            return self.refused(job, Kind.EXPIRED, "its expiry passed before it could start")
        job.definition = self.registry.definitions.get(profile.task)
        if job.leaf.feed is not None:
            job.value = job.message.value
        if job.definition is None:
            same = profile.task.rpartition(":")[2]
            near = [name for name in self.registry.definitions if name.rpartition(":")[2] == same]
            hint = f"; there is {', '.join(near)}" if near else ""
            return self.refused(job, Kind.UNKNOWN_TASK, f"this worker has no task {profile.task!r}{hint}")
        return None

    @staticmethod
    def complete(job: Job) -> bool:
        """Say whether everything that the task needs has travelled."""
        leaf = job.leaf
        return not leaf.stored and (leaf.feed is None or job.value is not None or job.message.source is None)

    async def fill(self, job: Job) -> Failure | None:
        """Add arguments and input that are kept apart; return why it cannot run, if so."""
        try:
            if job.leaf.stored:
                name = msgspec.msgpack.decode(job.leaf.call, type=str)
                job.call = await self.values.stored(Key(job.message.run, name))
            if job.leaf.feed is not None and job.value is None and job.message.source is not None:
                job.value = await self.values.read(job.message.source)
        except StateLost as lost:
            return self.refused(job, Kind.STATE_LOST, str(lost))
        return None

    def refused(self, job: Job, kind: Kind, reason: str) -> Failure:
        """Say why an attempt did not run."""
        return Failure(error_info(job, kind, "", reason))


def error_info(job: Job, kind: Kind, type_name: str, reason: str, traceback: str | None = None) -> ErrorInfo:
    """Describe a failure of a job; its path is known when its plan is at hand."""
    try:
        path: Sequence[int] = job.plan.path(job.place)
    except Exception:  # noqa: BLE001 - a page of an outer scope is not loaded: the path is a nicety
        path = ()
    return ErrorInfo(
        kind=kind,
        type=type_name,
        message=reason,
        task=job.profile.task,
        run=job.message.run,
        node=str(job.place),
        path=tuple(path),
        attempts=job.message.attempt,
        arguments=arguments(job),
        traceback=traceback,
    )


ARGUMENTS = 4096
"""Arguments longer than this are left out of errors."""


def arguments(job: Job) -> dict[str, Any] | None:
    """The arguments as they travelled, so that a failure handler knows what failed (R14)."""
    if job.leaf.stored or job.leaf.form or len(job.call) > ARGUMENTS:
        return None
    try:
        given: dict[str, Any] = msgspec.msgpack.decode(job.call)
    except msgspec.DecodeError:
        return None
    if job.leaf.feed and job.value is not None and len(job.value) <= ARGUMENTS:
        given[job.leaf.feed] = msgspec.msgpack.decode(job.value)
    return given
