"""The state of a memory broker, and how settlements change it. One event loop, no locks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from motet.engine.wellformed import check_program
from motet.errors import UsageError
from motet.memory.burials import Burials
from motet.memory.holders import Holders
from motet.memory.letters import Letters, Waiter
from motet.memory.records import Records, Slots
from motet.message import Key
from motet.ports import Admission, Clock, Entry, Present, Reply, Schedule
from motet.program import (
    Arrive,
    Bury,
    Conflict,
    Do,
    Drop,
    Flag,
    Guard,
    Once,
    Op,
    Open,
    Publish,
    Put,
    Retry,
    carry_out,
)

__all__ = ["World"]

EVENTS_KEPT = 1000
DONE, LOST = Reply(), Reply(lost=True)


class World:
    """Everything that clients of one `memory://` URL share. Who waits is woken in the order of arrival, on every run."""

    def __init__(self, clock: Clock, lease: timedelta) -> None:
        self.clock = clock
        self.letters: Letters = Letters(clock, lease)
        self.records: Records = Records(clock)
        self.holders: Holders = Holders(clock)
        self.burials: Burials = Burials()
        self.schedules: dict[str, Schedule] = {}
        self.workers: dict[str, tuple[Present, float]] = {}
        self.events: deque[bytes] = deque(maxlen=EVENTS_KEPT)
        self.emitted: int = 0
        self.watchers: dict[Waiter, None] = {}
        self.waiting: dict[str, dict[Waiter, None]] = {}

    def settle(self, entry: Entry) -> Reply:
        """Carry out one entry."""
        return self.settle_all([entry])[0]

    def settle_all(self, entries: Sequence[Entry]) -> list[Reply]:
        """Carry entries out, one after another; nothing can come between their ops, because nothing is awaited.

        Raises:
            UsageError: One is malformed; all others have been carried out (P6).
        """
        self.records.expire()
        now, held, letters = self.clock.monotonic(), self.letters.held, self.letters.all
        replies: list[Reply] = []
        refused: UsageError | None = None
        for entry in entries:
            program, delivery = entry.program, entry.delivery
            if delivery is not None and ((letter := held.get(delivery.receipt)) is None or letter.until <= now):
                replies.append(LOST)
                continue
            try:
                conflicts = self.carry_out(program)
            except UsageError as error:
                refused = error
                continue
            if conflicts:
                replies.append(Reply(conflicts))
                continue
            if entry.settlement is not None and entry.settlement.release:
                self.holders.release(entry.settlement.release)
            if delivery is not None:
                del held[delivery.receipt]
                letters.pop(delivery.id, None)
            replies.append(DONE)
        if refused is not None:
            raise refused
        return replies

    def carry_out(self, program: Sequence[Op]) -> Sequence[Conflict]:
        """Carry out a program whole; one of a single record, as most are, without the detour over `walk` and `apply`.

        Raises:
            UsageError: It is malformed; nothing was done.
        """
        if len(program) == 1 and type(op := program[0]) is Once and type(op.key) is Key and type(op.value) is bytes:
            stored = self.put_once(op)
            return () if stored is None or stored == op.value else (Conflict(op.key, stored),)
        check_program(program, self.may_fire)
        return carry_out(program, self.apply)

    def may_fire(self, op: Arrive) -> bool:
        """Say whether an arrival may decide its barrier. Most cannot, and to check what follows takes 1 us of 3."""
        slots = self.records.barriers.get(op.key)
        return (
            slots is None or len(slots.arrived) + 1 >= slots.size or (slots.fast and (op.failed or slots.failed) != 0)
        )

    def apply(self, op: Op) -> Any:
        """Do one op, and answer as `walk` asks."""
        match op:
            case Once():
                return self.put_once(op)
            case Publish():
                self.letters.publish(op.parcels)
            case Arrive():
                slots = self.records.barriers.get(op.key)
                return None if slots is None else slots.arrive(op.slot, op.failed)
            case Guard():
                return any(self.records.get(key) is not None for key in op.keys)
            case Open():
                self.records.barriers.setdefault(op.key, Slots(op))
            case Put():
                self.records.put(op)
            case Drop():
                self.records.remove(op.key)
            case Retry():
                if self.records.put_once(Once(op.key, b"1", op.ttl)) is None:
                    self.letters.publish((op.parcel,))
            case Flag():
                self.records.flag(op)
            case Bury():
                self.burials.bury(op.letter)
            case Do():
                raise TypeError("walk opens branches itself")
        return None

    def put_once(self, op: Once) -> bytes | None:
        """Write a record where nothing is, wake whoever waits for its run, and answer what was there."""
        if self.waiting:
            self.wake(op.key.run)
        return self.records.put_once(op)

    def wake(self, run: str) -> None:
        for event in self.waiting.get(run, ()):
            event.set()

    def admit(self, admission: Admission) -> str:
        """Publish a parcel subject to its key; whoever waits for the run that loses its place learns of it (T23)."""
        self.records.expire()
        name = admission.parcel.id
        if self.records.get(Key(name.partition(":")[0], admission.outcome)) is not None:
            # It lost its place, or has been decided: this is a repetition, which must not take another's place.
            return self.letters.standing(admission.key, self.clock.monotonic()) or name
        name, lost = self.letters.admit(admission)
        if lost is not None:
            self.put_once(Once(Key(lost.partition(":")[0], admission.outcome), admission.replaced, ends=True))
        return name

    def emit(self, events: Sequence[bytes]) -> None:
        """Append to the stream, and wake its readers."""
        self.events.extend(events)
        self.emitted += len(events)
        for watcher in self.watchers:
            watcher.set()

    def events_from(self, start: int, limit: int) -> tuple[str, list[bytes]]:
        """Read the stream from a place, or from its oldest event; and say where to read on."""
        oldest = self.emitted - len(self.events)
        first = min(max(start, oldest), self.emitted)
        found = list(self.events)[first - oldest : first - oldest + limit]
        return str(first + len(found)), found

    def wake_all(self) -> None:
        """Let everybody look again who waits for anything."""
        self.letters.wake_receivers()
        for watcher in self.watchers:
            watcher.set()
        for run in self.waiting:
            self.wake(run)
