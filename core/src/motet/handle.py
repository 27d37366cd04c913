"""Handles: a submitted run, or a node of one, as its client sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, Generic, Literal

import attrs
from typing_extensions import TypeVar

from motet.canvas.plan import Group
from motet.engine.client import Client, Counts
from motet.errors import ResultError, ResultGone, ResultTimeout, StateLost, TaskCancelled, TaskFailed
from motet.message import Place, Record, State
from motet.options import seconds
from motet.outcome import ErrorInfo

__all__ = ["GroupHandle", "Handle", "Progress", "Status"]

V = TypeVar("V", covariant=True, default=Any)
T = TypeVar("T", default=Any)

Name = Literal["pending", "running", "success", "failure", "cancelled", "skipped", "gone"]
ROOT = Place("", 0)
NAMES: dict[State, Name] = {State.OK: "success", State.ERR: "failure", State.CANCELLED: "cancelled"}


@attrs.frozen
class Progress:
    """Calls of a run that have ended, of how many."""

    done: int
    total: int


@attrs.frozen(kw_only=True)
class Status:
    """A run at one moment. `running` is advisory; the terminal states are final.

    `skipped` is a node that never ran, because something around it was decided first: an earlier step failed, or the
    scope was cancelled.
    """

    id: str
    state: Name
    total: int = 1
    completed_count: int = 0
    failed_count: int = 0

    @property
    def ready(self) -> bool:
        """Whether it has ended, in whichever way."""
        return self.state in ("success", "failure", "cancelled", "skipped", "gone")

    @property
    def successful(self) -> bool:
        """Whether it has ended well."""
        return self.state == "success"

    @property
    def failed(self) -> bool:
        """Whether it failed or was cancelled, or, of a group that is not decided yet, any member did."""
        return self.state in ("failure", "cancelled") or self.failed_count > 0

    @property
    def waiting(self) -> bool:
        """Whether it has not ended yet."""
        return not self.ready

    @property
    def successful_count(self) -> int:
        """How many members have ended well."""
        return self.completed_count - self.failed_count


class Handle(Generic[V]):
    """A run, or one node of it. Nothing here holds the run alive: a handle may be dropped and made again by id."""

    __slots__ = ("__weakref__", "_known", "_read", "client", "id", "place")

    def __init__(
        self,
        client: Client,
        id: str,
        read: Callable[[bytes], Any],
        *,
        place: Place = ROOT,
        known: bool = False,
    ) -> None:
        self.client: Client = client
        self.id: str = id
        self.place: Place = place
        self._read = read
        self._known = known

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}{'' if self.place == ROOT else f' node {self.place}'}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and (self.id, self.place) == (other.id, other.place)

    def __hash__(self) -> int:
        return hash((self.id, self.place))

    def __bool__(self) -> bool:
        raise TypeError("a handle is neither true nor false: ask `await handle.ready()`")

    async def result(self, timeout: float | timedelta | None = None) -> V:
        """Wait for the value. None waits for ever, 0 asks once.

        Raises:
            TaskFailed: It failed; `.error` says where and why.
            TaskCancelled: It was cancelled.
            ResultTimeout: It has not ended within `timeout`.
            ResultGone: Its value is not kept any more.
            UnknownRun: The backend does not know the id.
        """
        record = await self._ended(timeout)
        value: V = self._read(await self.client.value(self.id, self.place, record))
        return value

    async def _ended(self, timeout: float | timedelta | None) -> Record:
        limit = None if timeout is None else timedelta(seconds=seconds(timeout, "timeout"))
        return await self.client.wait(self.id, self.place, limit, self._known)

    async def status(self) -> Status:
        """Take a snapshot.

        Raises:
            UnknownRun: The backend does not know the id.
        """
        record = await self.client.decided(self.id, self.place)
        counts = await self._counts(record)
        if record is not None:
            state = NAMES[record.state]
        else:
            state = await self._undecided(counts)
        return Status(
            id=self.id, state=state, total=counts.total, completed_count=counts.completed, failed_count=counts.failed
        )

    async def _undecided(self, counts: Counts) -> Name:
        if self.place != ROOT and await self.client.passed_over(self.id, self.place):
            return "skipped"
        if not self._known:
            await self.client.require(self.id)
        if counts.completed:
            return "running"
        where = await self.client.where(self.id)
        if where is None and await self.client.info(self.id) is None:
            return "gone" if await self.client.decided(self.id, self.place) is None else "running"
        return "running" if where == "held" else "pending"

    async def _counts(self, record: Record | None) -> Counts:
        if record is None:
            return Counts(1, 0, 0)
        return Counts(1, 1, int(record.state != State.OK))

    async def ready(self) -> bool:
        """Whether it has ended."""
        return (await self.status()).ready

    async def successful(self) -> bool:
        """Whether it has ended well."""
        return (await self.status()).successful

    async def failed(self) -> bool:
        """Whether it, or a member of it, failed or was cancelled."""
        return (await self.status()).failed

    async def waiting(self) -> bool:
        """Whether it has not ended yet."""
        return (await self.status()).waiting

    async def completed_count(self) -> int:
        """How many members have ended, in whichever way."""
        return (await self.status()).completed_count

    async def successful_count(self) -> int:
        """How many members have ended well."""
        return (await self.status()).successful_count

    async def error(self) -> ErrorInfo | None:
        """Return why it failed, or None when it has not failed."""
        record = await self.client.decided(self.id, self.place)
        if record is None or record.state == State.OK:
            return None
        try:
            await self.client.value(self.id, self.place, record)
        except TaskFailed as failed:
            return failed.error
        except TaskCancelled as cancelled:
            return ErrorInfo(kind="cancelled", run=self.id, message=cancelled.reason)
        return None

    async def cancel(self, reason: str = "") -> None:
        """Ask for the end: what has not started will not start, what runs is told, nothing continues.

        If it has ended already, nothing changes.
        """
        await self.client.cancel(self.id, self.place, reason)

    revoke = cancel

    async def progress(self) -> Progress:
        """Count the calls in it that have ended; of a single call, what it last said by `ctx.progress`."""
        if (said := await self.client.said(self.id, self.place)) is not None:
            return Progress(*said)
        try:
            counts = await self.client.progress(self.id, self.place)
        except StateLost:
            record = await self.client.decided(self.id, self.place)
            return Progress(int(record is not None), 1)
        return Progress(counts.completed, counts.total)

    async def children(self) -> list[Handle[Any]]:
        """Return handles of the steps or members, in order; a single call has none."""
        try:
            places = await self.client.children(self.id, self.place)
        except StateLost:
            return []
        return [self._child(place) for place in places]

    def _child(self, place: Place) -> Handle[Any]:
        from motet.codec import decode

        return Handle(self.client, self.id, decode, place=place, known=True)

    async def __aiter__(self) -> AsyncIterator[Progress]:
        """Yield the progress each time it changes, until the run has ended."""
        last = None
        async with self.client.backend.signals.subscribe(self.id) as wakeups:
            while True:
                ended = await self.client.decided(self.id, self.place) is not None
                now = await self.progress()
                if now != last:
                    yield now
                last = now
                if ended:
                    return
                await wakeups.wait(timedelta(milliseconds=250))


class GroupHandle(Handle[list[T]]):
    """A submitted group."""

    __slots__ = ()

    async def _counts(self, record: Record | None) -> Counts:
        try:
            node = await self.client.node(self.id, self.place)
        except StateLost:
            return await super()._counts(record)
        if not isinstance(node, Group):
            # `app.handle(id)` cannot know what kind of term the run is.
            return await super()._counts(record)
        if not node.members:
            return Counts(0, 0, 0)
        return await self.client.counts(self.id, self.place)

    async def join(self, timeout: float | timedelta | None = None, *, propagate: bool = True) -> list[T]:
        """Return the members' values in call order.

        With `propagate=False` a member that failed stands in the list as its `ErrorInfo`; otherwise the first
        failure in call order is raised. `timeout=0` asks once.

        Raises:
            TaskFailed, TaskCancelled, ResultTimeout, ResultGone, UnknownRun: As `result`.
        """
        try:
            return await self.result(timeout)
        except (ResultTimeout, ResultGone):
            raise
        except ResultError:
            outcomes = [await _outcome(child) for child in await self.children()]
        for outcome in outcomes:
            if propagate and isinstance(outcome, ErrorInfo):
                raise TaskFailed(outcome)
        return outcomes

    async def iterate(self, timeout: float | timedelta | None = None, *, propagate: bool = True) -> AsyncIterator[T]:
        """Yield the members' values in the order in which they end.

        Raises:
            TaskFailed: A member failed, and `propagate` is true; otherwise its `ErrorInfo` is yielded.
            ResultTimeout: Not all have ended within `timeout`.
        """
        clock = self.client.clock
        limit = None if timeout is None else seconds(timeout, "timeout")
        start = clock.monotonic()
        seen: set[Place] = set()
        total = (await self.client.node(self.id, self.place)).members  # type: ignore[union-attr]  # the node is a group
        async with self.client.backend.signals.subscribe(self.id) as wakeups:
            while len(seen) < total:
                over = await self.client.decided(self.id, self.place) is not None
                for place in await self.client.arrived(self.id, self.place):
                    if place not in seen:
                        seen.add(place)
                        yield await self._member(place, propagate)
                if over or len(seen) >= total:
                    # Decided without the rest: cancelled, or failed fast.
                    return
                left = None if limit is None else limit - (clock.monotonic() - start)
                if left is not None and left <= 0:
                    raise ResultTimeout(self.id, timedelta(seconds=limit or 0))
                await wakeups.wait(timedelta(seconds=min(1.0, left or 1.0)))

    async def _member(self, place: Place, propagate: bool) -> Any:
        outcome = await _outcome(self._child(place))
        if propagate and isinstance(outcome, ErrorInfo):
            raise TaskFailed(outcome)
        return outcome


async def _outcome(handle: Handle[Any]) -> Any:
    """A member's value, or its error as data."""
    try:
        return await handle.result(timeout=0)
    except TaskFailed as failed:
        return failed.error
    except TaskCancelled as cancelled:
        return ErrorInfo(kind="cancelled", run=handle.id, message=cancelled.reason)
    except ResultTimeout:
        return ErrorInfo(kind="stopped", run=handle.id, message="stopped with its group")
