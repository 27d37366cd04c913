"""A shard's register of parcels: who is queued, parked or held. The parcels themselves travel in lanes.

Each time a parcel enters a lane it gets a new nonce, and a message that carries another one than the register does is
stale: its parcel was withdrawn, moved, or published again by an owner that came after a crash. Whoever takes a message
claims it here; each claim has a number, and only the last one settles.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec

from motet.options import Lane
from motet_rabbitmq.calls import call
from motet_rabbitmq.ops import WireParcel
from motet_rabbitmq.state import Output, State, Table

__all__ = ["Claimed", "Held", "LaneMessage", "Letters", "run_of"]

QUEUED, PARKED, HELD, KEPT = "q", "p", "h", "k"


class LaneMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What travels in a lane. `shard` has the parcel in its register; a negative one says that none has."""

    shard: int
    id: str
    nonce: str
    body: bytes
    suspect: bool = False
    deliveries: int = 0


class Letter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A parcel in the register. `body` is here only while it is in no lane: parked, or kept for a long task."""

    lane: Lane
    place: str
    nonce: str = ""
    claim: int = 0
    deliveries: int = 0
    strikes: int = 0
    suspect: bool = False
    until: float | None = None
    body: bytes = b""


class Claimed(NamedTuple):
    """What whoever claimed a message learns."""

    claim: int
    deliveries: int
    suspect: bool


class Held(NamedTuple):
    """A message that somebody holds by a claim; with its body where it is to go back."""

    id: str
    claim: int
    lane: Lane
    body: bytes = b""


def run_of(name: str) -> str:
    """The run that a parcel belongs to: the part of its id before the first colon."""
    return name.partition(":")[0]


class Letters:
    """What ports T and D keep of the parcels of this shard."""

    def __init__(
        self, state: State, index: int, queue_of: Callable[[Lane], str], entered: Callable[[Lane], None]
    ) -> None:
        self.state = state
        self.entered = entered
        self.lanes: set[Lane] = set()
        self.index = index
        self.queue_of = queue_of
        self.rows: Table[Letter] = Table(state, "l", Letter, self._noted)
        self.counts: dict[str, dict[str, int]] = {}

    def _noted(self, run: str, name: str, before: Letter | None, after: Letter | None) -> None:
        if before is not None:
            self._count(before, -1)
        if after is not None:
            self._count(after, 1)

    def _count(self, letter: Letter, change: int) -> None:
        queue = letter.lane.queue
        places = self.counts.get(queue)
        if places is None:
            places = self.counts[queue] = {}
        place = HELD if letter.place == KEPT else letter.place
        places[place] = count = places.get(place, 0) + change
        if not count and not any(places.values()):
            del self.counts[queue]

    def row(self, name: str) -> Letter | None:
        return self.rows.get(run_of(name), name)

    def write(self, name: str, letter: Letter, **changes: Any) -> Letter:
        changed = msgspec.structs.replace(letter, **changes)
        self.rows.put(run_of(name), name, changed)
        return changed

    def send(self, name: str, letter: Letter, body: bytes, **changes: Any) -> None:
        """Put a parcel into its lane."""
        letter = msgspec.structs.replace(letter, place=QUEUED, until=None, body=b"", **changes)
        self.post(run_of(name), name, letter, body)

    def post(self, run: str, name: str, letter: Letter, body: bytes) -> None:
        """Put what is to be queued into its lane, under a new nonce; a lane new to us is entered in the roll."""
        lane = letter.lane
        if lane not in self.lanes:
            self.lanes.add(lane)
            self.entered(lane)
        nonce = self.state.nonce()
        # Written out, here and in `_claim`: by `replace` a letter takes 1 us more, and every parcel has two.
        letter = Letter(lane, QUEUED, nonce, letter.claim, letter.deliveries, letter.strikes, letter.suspect, None, b"")
        self.rows.put(run, name, letter)
        self.state.outputs.append(Output(self.queue_of(lane), encode(LaneMessage(self.index, name, nonce, body))))

    def add(self, parcel: WireParcel) -> None:
        """Queue or park a parcel whose id is not here (T10)."""
        name = parcel.id
        run = run_of(name)
        if self.rows.get(run, name) is not None:
            return
        due = None if parcel.due is None else parcel.due.timestamp()
        letter = Letter(parcel.lane, PARKED, suspect=parcel.suspect or due is not None, until=due, body=parcel.body)
        if due is None or due <= self.state.now:
            self.post(run, name, letter, parcel.body)
        else:
            self.rows.put(run, name, letter)

    def expired(self, kind: str, run: str, name: str) -> None:
        """A parked parcel is due, or whoever kept one has fallen silent."""
        letter = self.rows.get(run, name)
        if letter is not None:
            self.send(name, letter, letter.body, suspect=True)

    def withdraw(self, name: str) -> None:
        """Take a parcel that nobody holds out; its message, if there is one, is stale from now on."""
        self.rows.drop(run_of(name), name)

    def waits(self, name: str, *, queued: bool) -> bool:
        """Say whether a parcel is parked; or, if asked, queued."""
        letter = self.row(name)
        return letter is not None and (letter.place == PARKED or (queued and letter.place == QUEUED))

    @call(grows=True, near=True)
    def publish(self, parcels: list[WireParcel]) -> None:
        for parcel in parcels:
            self.add(parcel)

    @call(near=True)
    def claim(self, messages: list[tuple[str, str, bool]]) -> list[Claimed | None]:
        """Take messages by id, nonce and whether they were redelivered; None for what is stale.

        Of what was redelivered, whoever had it before has lost it. What is held and was not is a copy: an owner that
        died between its outputs and its commit, or did not know which of them were stored, has sent it twice.
        """
        return [self._claim(name, nonce, again) for name, nonce, again in messages]

    def _claim(self, name: str, nonce: str, again: bool) -> Claimed | None:
        run = run_of(name)
        letter = self.rows.get(run, name)
        if letter is None or letter.nonce != nonce or letter.place not in ((QUEUED, HELD) if again else (QUEUED,)):
            return None
        suspect = letter.suspect or letter.place == HELD
        claim, deliveries = letter.claim + 1, letter.deliveries + 1
        held = Letter(letter.lane, HELD, nonce, claim, deliveries, letter.strikes, suspect, letter.until, letter.body)
        self.rows.put(run, name, held)
        return Claimed(claim, deliveries, suspect)

    def held(self, held: Held) -> Letter | None:
        """The letter that is held by this claim still."""
        letter = self.row(held.id)
        return letter if letter is not None and letter.claim == held.claim and letter.place in (HELD, KEPT) else None

    @call(near=True)
    def forget(self, held: list[Held]) -> None:
        """Acknowledge what is still held by these claims."""
        for each in held:
            self.let_go(each)

    def let_go(self, held: Held) -> None:
        if self.held(held) is not None:
            self.rows.drop(run_of(held.id), held.id)

    @call(near=True)
    def give_back(self, held: list[Held], delay: timedelta) -> None:
        """Queue, uncharged, what is still held by these claims; or park it (T7)."""
        for each in held:
            letter = self.held(each)
            if letter is None:
                continue
            # No claim has this number any more: a second call finds nothing to give back.
            changes: dict[str, Any] = {"deliveries": letter.deliveries - 1, "claim": letter.claim + 1}
            if delay:
                until = self.state.now + delay.total_seconds()
                self.write(each.id, letter, place=PARKED, nonce="", until=until, body=each.body, **changes)
            else:
                self.send(each.id, letter, each.body, **changes)

    @call(near=True)
    def keep(self, held: list[Held], lease: timedelta) -> list[bool]:
        """Hold parcels here instead of in their lanes, until a lease is over that is renewed by asking again (H9)."""
        kept: list[bool] = []
        for each in held:
            letter = self.held(each)
            kept.append(letter is not None)
            if letter is not None:
                until = self.state.now + lease.total_seconds()
                self.write(each.id, letter, place=KEPT, nonce="", until=until, body=each.body or letter.body)
        return kept

    @call(near=True)
    def strike(self, held: Held) -> int:
        """Count a message that is about to run in quarantine (T11); 0 for whoever has lost it."""
        letter = self.held(held)
        if letter is None:
            return 0
        return self.write(held.id, letter, strikes=letter.strikes + 1).strikes

    @call()
    def find(self, runs: list[str]) -> list[str | None]:
        return [self._find(run) for run in runs]

    def _find(self, run: str) -> str | None:
        for letter in self.rows.of(run).values():
            return {QUEUED: "queued", PARKED: "parked"}.get(letter.place, "held")
        return None

    @call()
    def cancel(self, ids: list[str]) -> list[bool]:
        """Take parked parcels back (D5)."""
        gone = [self.waits(name, queued=False) for name in ids]
        for name, parked in zip(ids, gone, strict=True):
            if parked:
                self.withdraw(name)
        return gone

    @call()
    def relocate(self, messages: list[tuple[str, str, bytes]], queue: str) -> list[bool]:
        """Bring queued messages, by id and nonce, into the same lane of another queue (T17)."""
        moved: list[bool] = []
        for name, nonce, body in messages:
            letter = self.row(name)
            moved.append(letter is not None and letter.nonce == nonce and letter.place == QUEUED)
            if letter is not None and moved[-1]:
                lane = letter.lane._replace(queue=queue)
                self.send(name, self.write(name, letter, lane=lane), body)
        return moved

    @call()
    def count(self) -> dict[str, tuple[int, int, int]]:
        """Count what is ready, held and parked, by queue."""
        return {
            queue: (places.get(QUEUED, 0), places.get(HELD, 0), places.get(PARKED, 0))
            for queue, places in self.counts.items()
        }


encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
