"""Reading values: an outcome may say where its value is, and a group's value is gathered from its members."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from motet.canvas.plan import Part, Plan
from motet.canvas.records import outcome_key
from motet.engine.plans import Plans
from motet.errors import StateLost
from motet.message import Key, Place, Record, Ref, State, pack, read_record
from motet.outcome import ErrorInfo, Kind
from motet.ports import Store

__all__ = ["Values", "array"]

HOPS = 10_000
"""More references in a row than any run has; a loop in damaged records ends here."""


class Values:
    """Follows references to bytes."""

    def __init__(self, store: Store, plans: Plans) -> None:
        self.store = store
        self.plans = plans

    async def read(self, ref: Ref) -> bytes:
        """Return the value that a reference leads to, encoded; a failed node's is its `ErrorInfo`.

        Raises:
            StateLost: A record on the way is gone.
        """
        if ref.stored:
            return await self.stored(Key(ref.run, ref.stored))
        _, value = await self.outcome(self.plans.of(ref.run), ref.place)
        return pack(value) if isinstance(value, ErrorInfo) else value

    async def stored(self, key: Key) -> bytes:
        """Return a value that is kept apart."""
        (raw,) = await self.store.get([key])
        if raw is None:
            raise StateLost(key.run, f"value {key.name}")
        return raw

    async def record(self, run: str, place: Place) -> Record | None:
        """Return a node's outcome record, if it is decided."""
        (raw,) = await self.store.get([outcome_key(run, place)])
        return None if raw is None else read_record(raw)

    async def outcome(self, plan: Plan, place: Place, record: Record | None = None) -> tuple[State, bytes | ErrorInfo]:
        """Return how a decided node ended, with its value or its error.

        Raises:
            StateLost: It is not decided, or a record on the way is gone.
        """
        run = plan.run
        record = record or await self.record(run, place)
        for _ in range(HOPS):
            if record is None:
                raise StateLost(run, f"the outcome of node {place}")
            source = record.source
            if record.error is not None:
                return record.state, record.error
            if source is None:
                if record.value is None:
                    raise StateLost(run, f"the value of node {place}")
                return record.state, record.value
            if source.stored:
                return record.state, await self.stored(Key(source.run, source.stored))
            if source.place == place and source.run == run:
                return record.state, await self.gathered(plan, place, record.state)
            if source.run != run:
                plan, run = self.plans.of(source.run), source.run
            place = source.place
            record = await self.record(run, place)
        raise StateLost(run, f"the end of the references from node {place}")

    async def gathered(self, plan: Plan, place: Place, state: State) -> bytes | ErrorInfo:
        """Gather a group: the list of its members' values, or its error with their errors as causes.

        Raises:
            StateLost: A member's record is gone, of a group that has succeeded: its run is being swept.
        """
        members = [ended async for ended in self.members(plan, place, state == State.OK)]
        if state == State.OK:
            return array([each if isinstance(each, bytes) else pack(each) for each in members])
        path = await self.plans.ask(plan, lambda known: known.path(place))
        errors = (each for each in members if isinstance(each, ErrorInfo) and each.kind != Kind.STOPPED)
        return failures(errors, plan.run, path)

    async def members(self, plan: Plan, place: Place, whole: bool) -> AsyncIterator[bytes | ErrorInfo]:
        """Yield each member's value or error, in order; 256 records a read. All of them have ended if it is `whole`."""
        children = await self.plans.ask(plan, lambda known: list(known.children(place, known.node(place))))
        parts = [child for child, node in children if isinstance(node, Part)]
        for part in parts:
            async for ended in self.members(plan, part, whole):
                yield ended
        if parts:
            return
        keys = [outcome_key(plan.run, child) for child, _ in children]
        for (child, _), raw in zip(children, await self.store.get(keys), strict=True):
            if raw is None and whole:
                raise StateLost(plan.run, f"the outcome of node {child}")
            if raw is None:
                # The group was decided early: this member was stopped, or is not wanted any more.
                yield ErrorInfo(kind=Kind.STOPPED, run=plan.run, node=str(child), message="stopped with its group")
                continue
            _, ended = await self.outcome(plan, child, read_record(raw))
            yield ended


def array(values: Sequence[bytes]) -> bytes:
    """Join encoded values to one encoded list, without decoding them."""
    count = len(values)
    if count < 16:
        head = bytes([0x90 | count])
    elif count < 1 << 16:
        head = b"\xdc" + count.to_bytes(2)
    else:
        head = b"\xdd" + count.to_bytes(4)
    return head + b"".join(values)


def failures(errors: Iterable[ErrorInfo], run: str, path: tuple[int, ...]) -> ErrorInfo:
    """Gather the causes of a failed group, in index order."""
    causes = tuple(errors)
    return ErrorInfo(kind="group", run=run, path=path, causes=causes, message=f"{len(causes)} members failed")
