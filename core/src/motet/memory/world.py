"""The state of a memory broker: letters in lanes, records, barriers, flags. One event loop, no locks."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import anyio

from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Barrier, Clock, Delivery, Entry, QueueInfo, Reply
from motet.program import (
    Arrival,
    Arrive,
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

FLAGS_KEPT = timedelta(hours=1)
DONE, LOST = Reply(), Reply(lost=True)


class Waiter(Protocol):
    """Somebody to wake."""

    def set(self) -> None:
        """Wake."""
        ...


class Letter:
    """A parcel in the broker. `receipt` is set while it is held."""

    __slots__ = ("deliveries", "parcel", "receipt", "strikes", "suspect", "until")

    def __init__(self, parcel: Parcel) -> None:
        self.parcel: Parcel = parcel
        self.receipt: str = ""
        self.until: float = 0.0
        self.deliveries: int = 0
        self.strikes: int = 0
        self.suspect: bool = parcel.suspect or parcel.due is not None


class Slots:
    """A barrier: slots in the order in which they arrived, with the failures that each brought."""

    __slots__ = ("arrived", "failed", "fast", "max_failed", "size")

    def __init__(self, op: Open) -> None:
        self.size: int = op.size
        self.max_failed: int = op.max_failed
        self.fast: bool = op.fast
        self.arrived: dict[int, int] = {}
        self.failed: int = 0

    def arrive(self, slot: int, failed: int) -> Arrival:
        if slot not in self.arrived:
            self.arrived[slot] = failed
            self.failed += failed
        return Arrival(self.size, len(self.arrived), self.failed, self.max_failed, self.fast)


class World:
    """Everything that clients of one `memory://` URL share. Who waits is woken in the order of arrival, on every run."""

    def __init__(self, clock: Clock, lease: timedelta) -> None:
        self.clock = clock
        self.lease: float = lease.total_seconds()
        self.lanes: dict[Lane, deque[Letter]] = {}
        self.letters: dict[str, Letter] = {}
        self.held: dict[str, Letter] = {}
        self.parked: list[tuple[datetime, int, Letter]] = []
        self.paused: set[str] = set()
        self.records: dict[str, dict[str, bytes]] = {}
        self.barriers: dict[Key, Slots] = {}
        self.expiries: list[tuple[float, int, Key, bytes]] = []
        self.flags: list[tuple[datetime, Flag]] = []
        self.dropped_flags: int = 0
        self.waiting: dict[str, dict[Waiter, None]] = {}
        self.receivers: dict[anyio.Event, None] = {}
        self.counter: itertools.count[int] = itertools.count(1)
        self.next_expiry: float = float("inf")

    # Letters.

    def publish(self, parcels: Iterable[Parcel]) -> None:
        """Queue or park each parcel whose id is not here (T10)."""
        for parcel in parcels:
            if parcel.id in self.letters:
                continue
            letter = self.letters[parcel.id] = Letter(parcel)
            if parcel.due is None:
                self.enqueue(letter)
            else:
                self.park(letter, parcel.due)
        self.wake_receivers()

    def park(self, letter: Letter, due: datetime) -> None:
        heapq.heappush(self.parked, (due, next(self.counter), letter))

    def enqueue(self, letter: Letter) -> None:
        lane = letter.parcel.lane
        queue = self.lanes.get(lane)
        if queue is None:
            queue = self.lanes[lane] = deque()
        queue.append(letter)

    def wake_receivers(self) -> None:
        for event in self.receivers:
            event.set()

    def take(self, lanes: Sequence[Lane], limit: int) -> list[Delivery]:
        """Hold up to `limit` letters, highest lane first (T4)."""
        self.turn()
        now = self.clock.monotonic()
        until = now + self.lease
        taken: list[Delivery] = []
        for lane in lanes:
            queue = self.lanes.get(lane)
            if not queue or lane.queue in self.paused:
                continue
            while queue and len(taken) < limit:
                letter = queue.popleft()
                if letter.parcel.id not in self.letters:
                    continue
                letter.receipt = receipt = f"{letter.parcel.id}#{next(self.counter)}"
                letter.deliveries += 1
                letter.until = until
                self.held[receipt] = letter
                parcel = letter.parcel
                taken.append(Delivery(receipt, parcel.id, lane, parcel.body, letter.deliveries, letter.suspect))
        if taken:
            self.next_expiry = min(self.next_expiry, until)
        return taken

    def turn(self) -> None:
        """Let time pass: promote what is due, take back what was held too long, forget what has expired."""
        if self.parked and self.parked[0][0] <= self.clock.now():
            now = self.clock.now()
            while self.parked and self.parked[0][0] <= now:
                self.enqueue(heapq.heappop(self.parked)[2])
        if self.clock.monotonic() >= self.next_expiry:
            self.reap()
        self.expire()

    def reap(self) -> None:
        now = self.clock.monotonic()
        for receipt, letter in list(self.held.items()):
            if letter.until <= now:
                del self.held[receipt]
                letter.receipt, letter.suspect = "", True
                self.lanes.setdefault(letter.parcel.lane, deque()).appendleft(letter)
        self.next_expiry = min((letter.until for letter in self.held.values()), default=float("inf"))

    def until_next(self, limit: float) -> float:
        """Seconds until time alone may make a letter ready."""
        if self.parked:
            limit = min(limit, (self.parked[0][0] - self.clock.now()).total_seconds())
        return max(0.0, min(limit, self.next_expiry - self.clock.monotonic()))

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        """Renew leases; one that ran out is lost even if nobody has taken the letter since."""
        now = self.clock.monotonic()
        kept: list[bool] = []
        for receipt in receipts:
            letter = self.held.get(receipt)
            kept.append(letter is not None and letter.until > now)
            if letter is not None and letter.until > now:
                letter.until = now + self.lease
        return kept

    def holds(self, delivery: Delivery) -> bool:
        """Say whether a delivery is still its worker's."""
        letter = self.held.get(delivery.receipt)
        return letter is not None and letter.until > self.clock.monotonic()

    def forget(self, delivery: Delivery) -> None:
        """Acknowledge a held letter."""
        if self.held.pop(delivery.receipt, None) is not None:
            self.letters.pop(delivery.id, None)

    def give_back(self, delivery: Delivery, delay: timedelta) -> None:
        """Put a held letter back at the front of its lane, or park it (T7)."""
        letter = self.held.pop(delivery.receipt, None)
        if letter is None:
            return
        letter.receipt = ""
        letter.deliveries -= 1
        if delay:
            self.park(letter, self.clock.now() + delay)
        else:
            self.lanes[letter.parcel.lane].appendleft(letter)
        self.wake_receivers()

    def find(self, run: str) -> str | None:
        """Say where a letter of a run is."""
        start = f"{run}:"
        parked = {id(letter) for _, _, letter in self.parked}
        for name, letter in self.letters.items():
            if name.startswith(start):
                return "held" if letter.receipt else "parked" if id(letter) in parked else "queued"
        return None

    def queues(self) -> list[QueueInfo]:
        parked = {id(letter) for _, _, letter in self.parked}
        counts: dict[str, list[int]] = {queue: [0, 0, 0] for queue in self.paused}
        for letter in self.letters.values():
            state = 1 if letter.receipt else 2 if id(letter) in parked else 0
            counts.setdefault(letter.parcel.lane.queue, [0, 0, 0])[state] += 1
        return [
            QueueInfo(queue, ready, held, waiting, queue in self.paused)
            for queue, (ready, held, waiting) in sorted(counts.items())
        ]

    # Records.

    def put_once(self, op: Once) -> bytes | None:
        """Write where nothing is; answer what was there."""
        records = self.records.get(op.key.run)
        if records is None:
            records = self.records[op.key.run] = {}
        stored = records.get(op.key.name)
        if stored is not None:
            return stored
        records[op.key.name] = op.value
        if op.ttl is not None:
            self.age(op.key, op.value, op.ttl)
        return None

    def put(self, op: Put) -> None:
        self.records.setdefault(op.key.run, {})[op.key.name] = op.value
        if op.ttl is not None:
            self.age(op.key, op.value, op.ttl)

    def age(self, key: Key, value: bytes, ttl: timedelta) -> None:
        due = self.clock.monotonic() + ttl.total_seconds()
        heapq.heappush(self.expiries, (due, next(self.counter), key, value))

    def expire(self) -> None:
        """Forget what has expired."""
        while self.expiries and self.expiries[0][0] <= self.clock.monotonic():
            _, _, key, value = heapq.heappop(self.expiries)
            if self.get(key) is value:
                self.drop(key)

    def get(self, key: Key) -> bytes | None:
        records = self.records.get(key.run)
        return records.get(key.name) if records else None

    def drop(self, key: Key) -> None:
        records = self.records.get(key.run, {})
        records.pop(key.name, None)
        if not records:
            self.records.pop(key.run, None)

    def sweep(self, run: str, limit: int) -> bool:
        """Remove records, then barriers, of a run."""
        for name in list(self.records.get(run, ()))[:limit]:
            self.drop(Key(run, name))
        if run in self.records:
            return False
        for key in [key for key in self.barriers if key.run == run]:
            del self.barriers[key]
        return True

    def barrier(self, key: Key) -> Barrier | None:
        slots = self.barriers.get(key)
        if slots is None:
            return None
        return Barrier(slots.size, tuple(slots.arrived), slots.failed, slots.max_failed, slots.fast)

    def flags_since(self, cursor: str | None) -> tuple[str, list[Flag]]:
        """Read flags after a cursor; the cursor counts every flag that ever was."""
        oldest = self.clock.now() - FLAGS_KEPT
        while self.flags and self.flags[0][0] < oldest:
            self.flags.pop(0)
            self.dropped_flags += 1
        start = max(0, int(cursor or 0) - self.dropped_flags)
        return str(self.dropped_flags + len(self.flags)), [flag for _, flag in self.flags[start:]]

    # Settling.

    def settle(self, entry: Entry) -> Reply:
        """Carry out one entry."""
        return self.settle_all([entry])[0]

    def settle_all(self, entries: Sequence[Entry]) -> list[Reply]:
        """Carry entries out, one after another; nothing can come between their ops, because nothing is awaited."""
        self.expire()
        now, held, letters = self.clock.monotonic(), self.held, self.letters
        replies: list[Reply] = []
        for entry in entries:
            delivery = entry.delivery
            if delivery is not None and ((letter := held.get(delivery.receipt)) is None or letter.until <= now):
                replies.append(LOST)
                continue
            conflicts = carry_out(entry.program, self.apply)
            if delivery is not None and not conflicts:
                del held[delivery.receipt]
                letters.pop(delivery.id, None)
            replies.append(Reply(conflicts) if conflicts else DONE)
        return replies

    def apply(self, op: Op) -> Any:
        """Do one op, and answer as `walk` asks."""
        match op:
            case Once():
                self.wake(op.key.run)
                return self.put_once(op)
            case Publish():
                self.publish(op.parcels)
            case Arrive():
                slots = self.barriers.get(op.key)
                return None if slots is None else slots.arrive(op.slot, op.failed)
            case Guard():
                return any(self.get(key) is not None for key in op.keys)
            case Open():
                self.barriers.setdefault(op.key, Slots(op))
            case Put():
                self.put(op)
            case Drop():
                self.drop(op.key)
            case Retry():
                if self.put_once(Once(op.key, b"1", op.ttl)) is None:
                    self.publish((op.parcel,))
            case Flag():
                self.flags.append((self.clock.now(), op))
            case Do():
                raise TypeError("walk opens branches itself")
        return None

    def wake(self, run: str) -> None:
        for event in self.waiting.get(run, ()):
            event.set()
