"""The world of a schedule: the memory broker, and a history of what was written in it that the core cannot touch."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sharers import WatchedHolders

from motet.canvas.records import ROOT_OUTCOME
from motet.memory.letters import Letter, Letters
from motet.memory.records import Records
from motet.memory.world import World
from motet.message import Key, Parcel, State, read_record
from motet.options import CONTROL
from motet.ports import Clock, Delivery, Entry, Reply
from motet.program import Flag, Once, Put

__all__ = ["Holder", "Witness"]


class Holder:
    """Who may hold deliveries: an actor. `troubled` is when a fault last kept it from renewing its leases."""

    name = ""
    alive = True
    troubled = float("-inf")


class Taken(NamedTuple):
    """A message in the hands of a worker: since when, and whether it was told to look before it runs."""

    holder: Holder
    since: float
    suspect: bool


class Witness(World):
    """A world that keeps what it saw: outcomes and when they were written, sends, losses of leases."""

    def __init__(self, clock: Clock, lease: timedelta) -> None:
        super().__init__(clock, lease)
        self.letters = WatchedLetters(self, clock, lease)
        self.records = WatchedRecords(self, clock)
        self.holders = WatchedHolders(self, clock)
        self.violations: list[str] = []
        self.decided: dict[Key, tuple[float, bytes]] = {}
        self.values: dict[Key, bytes] = {}
        self.closed: dict[Key, float] = {}
        self.flagged: dict[str, list[tuple[float, Flag]]] = {}
        self.sent: dict[str, float] = {}
        self.holders_of: dict[str, Holder] = {}
        self.taken: dict[str, list[Taken]] = {}
        self.forgotten: dict[str, float] = {}
        """When each run was swept."""
        self.expired: dict[str, float] = {}
        """When the root's record of each run went by itself."""
        self.stragglers: set[str] = set()
        """Runs in which a settlement was under way while they were swept: what it writes stays behind."""
        self.excused: set[str] = set()
        self.again: Counter[str] = Counter()
        """How often each message came back because its lease was lost."""
        self.returned: Counter[str] = Counter()
        """How often each was handed back."""
        self.resent: Counter[str] = Counter()
        """Sent a second time after the first was gone, and not marked: by a worker that did not know it had lost it."""
        self.copies: Counter[str] = Counter()
        self.acked: deque[tuple[float, Parcel]] = deque(maxlen=50)
        self.keep: dict[str, float] = {}
        """How long each run's records must stay after its end, where that is known."""

    @property
    def losses(self) -> int:
        """How many leases were lost."""
        return sum(self.again.values())

    def wrong(self, invariant: str, text: str) -> None:
        """Note a violation."""
        self.violations.append(f"{invariant} at {self.clock.monotonic():.3f}: {text}")

    # What is written.

    def wrote(self, key: Key, before: bytes | None, after: bytes | None) -> None:
        """Look at what was just written."""
        kind, now = key.name[:2], self.clock.monotonic()
        assert after is not None
        if kind in ("o.", "s."):
            known = self.decided.setdefault(key, (now, after))
            if known[0] != now and before is None:
                self.rewrote(key, known[1], after)
            elif known[1] != after and before != after:  # else it was written again before, which has been looked at
                self.wrong("I2", f"{key} was written twice, and not the same")
        elif kind == "x.":
            self.closed.setdefault(key, now)
        elif kind == "v.":
            self.values[key] = after

    def rewrote(self, key: Key, before: bytes, after: bytes) -> None:
        """Look at an outcome that was written again after it had been forgotten."""
        if key.name[:2] == "o." and read_record(after).state == State.CANCELLED:
            return  # nobody can tell a run that was forgotten from a call that is not known yet; the mark expires
        since = self.forgotten.get(key.run)
        if since is None or self.clock.monotonic() < since + 2 * self.letters.lease:
            self.stragglers.add(key.run)  # a settlement under way; or one call, whose only record expires by itself
        else:
            same = "" if before == after else ", and not the same"
            self.wrong("I2", f"{key} was written again after it had been forgotten{same}")

    def swept(self, run: str) -> None:
        """Look at when records go."""
        self.forgotten[run] = self.clock.monotonic()
        ended = self.decided.get(Key(run, ROOT_OUTCOME))
        now = self.clock.monotonic()
        # Roughly, because it counts from when the settlement was worked out, and under faults that takes its time.
        if ended is not None and now < ended[0] + self.keep.get(run, 0.0) / 2 - 2 * self.letters.lease:
            self.wrong("I8", f"run {run} was swept {now - ended[0]:.3f} s after its end, not {self.keep[run]:g}")

    # Messages.

    def handed(self, delivery: Delivery, holder: Holder) -> None:
        """Note that a delivery has reached its worker, who answers for it from here."""
        self.holders_of[delivery.receipt] = holder
        taken = Taken(holder, self.clock.monotonic(), delivery.suspect)
        self.taken.setdefault(delivery.id.partition("~")[0], []).append(taken)

    def lost(self, receipt: str, letter: Letter) -> None:
        """Note a lease that ran out, and whether it had a reason."""
        self.again[letter.parcel.id] += 1
        holder = self.holders_of.get(receipt)
        if receipt in self.excused or holder is None or not holder.alive:
            return
        if letter.until - holder.troubled <= self.letters.lease * 1.5:
            return
        self.wrong("I7", f"the lease of {letter.parcel.id} ran out while {holder.name} was well")

    def losses_of(self, start: str) -> int:
        """Count how often messages came back whose ids begin so."""
        both = (*self.again.items(), *self.returned.items())
        return sum(count for name, count in both if name.startswith(start))

    def gone(self, letter: Letter) -> None:
        """Note a message that was acknowledged."""
        self.acked.append((self.clock.monotonic(), letter.parcel))

    def copyable(self) -> list[Parcel]:
        """The messages that a broker may still deliver twice: those here, and those acknowledged within a lease."""
        since = self.clock.monotonic() - self.letters.lease
        here = [letter.parcel for letter in self.letters.all.values() if letter.parcel.due is None]
        known = [*here, *(parcel for moment, parcel in self.acked if moment >= since)]
        return [each for each in known if "~" not in each.id and not housekeeping(each)]

    def copy(self, parcel: Parcel) -> None:
        """Deliver a message a second time; whichever comes second is marked, as a broker marks it."""
        self.copies[parcel.id] += 1
        name = f"{parcel.id}~{self.copies[parcel.id]}"
        if parcel.id in self.letters.all:
            self.letters.all[parcel.id].suspect = True
        letter = self.letters.all[name] = Letter(Parcel(name, parcel.lane, parcel.body, suspect=True))
        self.letters.enqueue(letter)
        self.letters.wake_receivers()

    # Settling.

    def settle_all(self, entries: Sequence[Entry]) -> list[Reply]:
        replies: list[Reply] = []
        for entry in entries:
            delivery = entry.delivery
            held = delivery is None or self.letters.holds(delivery)
            letter = None if delivery is None else self.letters.all.get(delivery.id)
            (reply,) = super().settle_all([entry])
            replies.append(reply)
            if not held and not reply.lost:
                self.wrong("P4", f"{delivery.id if delivery else ''} was settled by a worker that had lost it")
            if letter is not None and held and not reply.conflicts:
                self.gone(letter)
        return replies

    # The end.

    def left(self) -> list[str]:
        """Say what is still here that ought not to be."""
        found = [f"letter {name}" for name in self.letters.all]
        late = self.stragglers
        values = {run: names for run, names in self.records.values.items() if names and run not in late}
        found += [f"records {run} {sorted(names)[:5]}" for run, names in values.items()]
        found += [f"barrier {key}" for key in self.records.barriers if key.run not in late]
        found += [f"waiter for {run}" for run in self.waiting]
        self.holders.turn()
        found += [f"lock {name}" for name in (*self.holders.locks, *self.holders.owners, *self.holders.uses)]
        return found

    def quiet(self) -> bool:
        """Whether nothing is ready, held, or parked but housekeeping, and limits of time of what has ended."""
        return all(not letter.receipt and self.idle(letter) for letter in self.letters.all.values())

    def idle(self, letter: Letter) -> bool:
        run, _, order = letter.parcel.id.partition(":")
        late = letter.parked and ":t" in order and Key(run, ROOT_OUTCOME) in self.decided
        return late or housekeeping(letter.parcel)


class WatchedRecords(Records):
    """Records, each write of which is seen."""

    def __init__(self, witness: Witness, clock: Clock) -> None:
        super().__init__(clock)
        self.witness = witness

    def put_once(self, op: Once) -> bytes | None:
        before = self.get(op.key)
        answer = super().put_once(op)
        self.witness.wrote(op.key, before, self.get(op.key))
        return answer

    def put(self, op: Put) -> None:
        before = self.get(op.key)
        super().put(op)
        self.witness.wrote(op.key, before, self.get(op.key))

    def remove(self, key: Any) -> None:
        if key.name == ROOT_OUTCOME:
            self.witness.expired.setdefault(key.run, self.clock.monotonic())
        super().remove(key)

    def sweep(self, run: str, limit: int) -> bool:
        self.witness.swept(run)
        return super().sweep(run, limit)

    def flag(self, scope: Flag) -> None:
        self.witness.flagged.setdefault(scope.run, []).append((self.clock.monotonic(), scope))
        super().flag(scope)


class WatchedLetters(Letters):
    """Letters, whose ways are seen."""

    def __init__(self, witness: Witness, clock: Clock, lease: timedelta) -> None:
        super().__init__(clock, lease)
        self.witness = witness

    def publish(self, parcels: Iterable[Parcel]) -> None:
        parcels = tuple(parcels)
        now, sent = self.clock.monotonic(), self.witness.sent
        for parcel in parcels:
            if sent.setdefault(parcel.id, now) != now and parcel.id not in self.all and not parcel.suspect:
                self.witness.resent[parcel.id] += 1
        super().publish(parcels)

    def reap(self) -> None:
        now = self.clock.monotonic()
        for receipt, letter in self.held.items():
            if letter.until <= now:
                self.witness.lost(receipt, letter)
        super().reap()

    def forget(self, delivery: Delivery) -> None:
        letter = self.all[delivery.id]
        super().forget(delivery)
        self.witness.gone(letter)

    def give_back(self, delivery: Delivery, delay: timedelta) -> None:
        self.witness.returned[delivery.id] += 1
        super().give_back(delivery, delay)


def housekeeping(parcel: Parcel) -> bool:
    """Whether a message only tidies up: a sweep, or a janitor."""
    return parcel.lane == CONTROL and parcel.id.rpartition(":")[2][:1] in ("w", "j")
