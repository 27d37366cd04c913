"""Parcels in a memory broker: queued in lanes, parked until they are due, held under a lease, standing for a key."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from motet.message import Parcel
from motet.options import Lane
from motet.ports import Admission, Clock, Delivery, QueueInfo, Rule

__all__ = ["Letter", "Letters", "Waiter"]


class Waiter(Protocol):
    """Somebody to wake."""

    def set(self) -> None:
        """Wake."""
        ...


class Letter:
    """A parcel in the broker. `receipt` is set while it is held."""

    __slots__ = ("deliveries", "parcel", "parked", "receipt", "strikes", "suspect", "until")

    def __init__(self, parcel: Parcel) -> None:
        self.parcel: Parcel = parcel
        self.parked: bool = False
        self.receipt: str = ""
        self.until: float = 0.0
        self.deliveries: int = 0
        self.strikes: int = 0
        self.suspect: bool = parcel.suspect or parcel.due is not None


class Letters:
    """What ports T and D keep."""

    def __init__(self, clock: Clock, lease: timedelta) -> None:
        self.clock = clock
        self.lease: float = lease.total_seconds()
        self.all: dict[str, Letter] = {}
        self.lanes: dict[Lane, deque[Letter]] = {}
        self.held: dict[str, Letter] = {}
        self.parked: list[tuple[datetime, int, Letter]] = []
        self.withdrawn: int = 0
        self.paused: set[str] = set()
        self.receivers: dict[Waiter, None] = {}
        self.keys: dict[str, tuple[str, float]] = {}
        self.counter: itertools.count[int] = itertools.count(1)
        self.next_expiry: float = float("inf")
        self.next_forgetting: float = float("inf")

    def publish(self, parcels: Iterable[Parcel]) -> None:
        """Queue or park each parcel whose id is not here (T10)."""
        known, lanes = self.all, self.lanes
        for parcel in parcels:
            name = parcel.id
            if name in known:
                continue
            letter = known[name] = Letter(parcel)
            if parcel.due is not None:
                self.park(letter, parcel.due)
            elif (queue := lanes.get(parcel.lane)) is not None:
                queue.append(letter)
            else:
                self.enqueue(letter)
        self.wake_receivers()

    def park(self, letter: Letter, due: datetime) -> None:
        letter.parked = True
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

    def take(self, lanes: Sequence[Lane], limit: int, *, paused: bool = False) -> list[Delivery]:
        """Hold up to `limit` letters, highest lane first (T4); of paused queues too, if asked (T16)."""
        self.turn()
        until = self.clock.monotonic() + self.lease
        taken: list[Delivery] = []
        for lane in lanes:
            queue = self.lanes.get(lane)
            if not queue or (lane.queue in self.paused and not paused):
                continue
            while queue and len(taken) < limit:
                letter = queue.popleft()
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
        """Let time pass: promote what is due, take back what was held too long."""
        if self.parked and self.parked[0][0] <= self.clock.now():
            now = self.clock.now()
            while self.parked and self.parked[0][0] <= now:
                letter = heapq.heappop(self.parked)[2]
                if letter.parked:
                    letter.parked = False
                    self.enqueue(letter)
                else:
                    self.withdrawn -= 1
        if self.clock.monotonic() >= self.next_expiry:
            self.reap()

    def reap(self) -> None:
        now = self.clock.monotonic()
        for receipt, letter in list(self.held.items()):
            if letter.until <= now:
                del self.held[receipt]
                letter.receipt, letter.suspect = "", True
                self.lanes[letter.parcel.lane].appendleft(letter)
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
        """Acknowledge a letter that is held."""
        del self.held[delivery.receipt]
        del self.all[delivery.id]

    def give_back(self, delivery: Delivery, delay: timedelta) -> None:
        """Put a letter that is held back at the front of its lane, or park it (T7)."""
        letter = self.held.pop(delivery.receipt)
        letter.receipt = ""
        letter.deliveries -= 1
        if delay:
            self.park(letter, self.clock.now() + delay)
        else:
            self.lanes[letter.parcel.lane].appendleft(letter)
        self.wake_receivers()

    def withdraw(self, letter: Letter) -> None:
        """Take a letter that nobody holds out of the broker."""
        del self.all[letter.parcel.id]
        if not letter.parked:
            self.lanes[letter.parcel.lane].remove(letter)
            return
        # Its place among the parked is passed over when it is due; too many such places are cleared at once.
        letter.parked = False
        self.withdrawn += 1
        if self.withdrawn * 2 > len(self.parked):
            self.parked = [place for place in self.parked if place[2].parked]
            heapq.heapify(self.parked)
            self.withdrawn = 0

    def cancel(self, name: str) -> bool:
        """Take a parked letter back (D5)."""
        self.turn()
        letter = self.all.get(name)
        if letter is None or not letter.parked:
            return False
        self.withdraw(letter)
        return True

    def move(self, source: str, target: str, limit: int) -> int:
        """Bring ready letters, the oldest first, to the end of the same lanes of another queue (T17)."""
        self.turn()
        ready = (
            letter
            for letter in self.all.values()
            if letter.parcel.lane.queue == source and not letter.parked and not letter.receipt
        )
        moved = list(itertools.islice(ready, limit))
        for letter in moved:
            lane = letter.parcel.lane
            self.lanes[lane].remove(letter)
            letter.parcel = msgspec.structs.replace(letter.parcel, lane=lane._replace(queue=target))
            self.enqueue(letter)
        self.wake_receivers()
        return len(moved)

    def admit(self, admission: Admission) -> tuple[str, str | None]:
        """Publish a parcel subject to its key; return the id that stands for the key, and the id that lost its place.

        Whether the parcel itself has lost its place before is for the caller to know.
        """
        self.turn()
        now = self.clock.monotonic()
        parcel = admission.parcel
        kept = self.standing(admission.key, now)
        if kept is not None and (kept == parcel.id or admission.rule is Rule.FIRST):
            return kept, None
        lost = None if kept is None else self.all.get(kept)
        if lost is not None and (lost.receipt or not (lost.parked or admission.rule is Rule.KEEP_LAST)):
            lost = None
        if lost is not None:
            self.withdraw(lost)
        self.publish((parcel,))
        until = now + admission.window.total_seconds()
        self.keys[admission.key] = parcel.id, until
        self.next_forgetting = min(self.next_forgetting, until)
        return parcel.id, None if lost is None else lost.parcel.id

    def standing(self, key: str, now: float) -> str | None:
        """Say which parcel stands for a key, while that is kept."""
        if now >= self.next_forgetting:
            self.keys = {each: kept for each, kept in self.keys.items() if kept[1] > now}
            self.next_forgetting = min((until for _, until in self.keys.values()), default=float("inf"))
        return self.keys[key][0] if key in self.keys else None

    def find(self, run: str) -> str | None:
        """Say where a letter of a run is."""
        start = f"{run}:"
        for name, letter in self.all.items():
            if name.startswith(start):
                return "held" if letter.receipt else "parked" if letter.parked else "queued"
        return None

    def queues(self) -> list[QueueInfo]:
        """Count the letters of each queue (T15)."""
        counts: dict[str, list[int]] = {queue: [0, 0, 0] for queue in self.paused}
        for letter in self.all.values():
            state = 1 if letter.receipt else 2 if letter.parked else 0
            counts.setdefault(letter.parcel.lane.queue, [0, 0, 0])[state] += 1
        return [
            QueueInfo(queue, ready, held, waiting, queue in self.paused)
            for queue, (ready, held, waiting) in sorted(counts.items())
        ]
