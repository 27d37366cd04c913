"""Moving messages from whoever sends them to a worker, at least once."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import msgspec

from motet.message import Parcel
from motet.options import Lane

__all__ = ["Admission", "Delivery", "QueueInfo", "Rule", "Transport"]


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A message held by this worker under a lease.

    `deliveries` is the broker's count and only a hint (C10). `suspect` is true when the message may have run before:
    redelivered, parked by a timer, or published again (C3).
    """

    receipt: str
    id: str
    lane: Lane
    body: bytes
    deliveries: int = 1
    suspect: bool = False


class QueueInfo(msgspec.Struct, frozen=True):
    """One queue, all its lanes together."""

    queue: str
    ready: int
    held: int
    parked: int
    paused: bool = False


class Rule(enum.StrEnum):
    """What becomes of a parcel whose key another parcel stands for already."""

    FIRST = "first"
    """The other stands as long as the key is kept: throttle, and unique within a window."""
    DEBOUNCE = "debounce"
    """This one takes its place while the other is parked: only the last of a burst is delivered."""
    KEEP_LAST = "keep_last"
    """This one takes its place while the other is parked or queued: at most one waits, with the latest arguments."""


class Admission(msgspec.Struct, frozen=True, gc=False):
    """A parcel that is published subject to a key. The key is kept for `window` from the publish that it stands for.

    If it takes another parcel's place, `replaced` is written once as the record `outcome` of that one's run: whoever
    waits for it learns of it. The window of a debounce is longer than its delay.
    """

    key: str
    rule: Rule
    parcel: Parcel
    window: timedelta
    outcome: str = "o.0"
    replaced: bytes = b""


class Transport(Protocol):
    """Moves parcels from senders to workers, at least once.

    T1. Once `publish` returns, the parcels survive the sender, and the broker as far as its capability `durable` says.
    T2. A delivery is invisible to other receivers while its lease runs.
    T3. An unsettled delivery comes back after its lease, with `deliveries` one higher and `suspect` set.
    T4. `receive` gives the lanes' messages in the order of the lanes, and within a lane the oldest first.
    T5. Cancelling `receive` loses nothing: what it had taken comes back.
    T6. `receive` returns as soon as there is at least one message, at most `limit`, and nothing after `wait`.
    T7. `release` gives a delivery back at once, or after `delay`, without charging it: `deliveries` is as before.
    T8. `ack`, `release` and `extend` of a delivery whose lease was lost do nothing for whoever holds it now.
    T9. `extend` may be called from any thread, blocks, and answers for each receipt whether it is still held.
    T10. `publish` of an id that is queued, parked or held changes nothing.
    T11. `strike` counts durably how often this message was about to run in quarantine; only hand-back-free deaths
         raise it, and `release`, reconnects and lock waits never do (C10). Who has lost the message is answered 0.
    T12. A paused queue delivers nothing until it is resumed; what is held stays held. Pausing survives restarts.
    T13. `find` says for each run whether a message of it is "queued", "parked" or "held", or None. The run is the
         part of a parcel's id before the first colon.
    T14. A parcel published with `suspect`, or with `due`, is delivered as suspect.
    T15. `queues` counts each queue that holds something or is paused: ready, held and parked, over all its lanes.
    T16. `receive` with `paused=True` takes from paused queues too, so that one can be emptied while nobody else takes.
    T17. `move` brings at most `limit` ready messages into the same lanes of another queue, the oldest first, and
         answers how many; ids, bodies and counts stay, what is held or parked is not moved, and none is lost on the
         way. They come after what is there already.
    T18. Bodies are opaque: any bytes, none and 512 KiB of them included, come back equal.
    T19. `admit` publishes a parcel, or not, in one step with looking at its key: of several at once under a new key one
         is published, and all are answered the id that stands for the key. Admitting the same parcel again changes
         nothing while the key is kept, even after it is gone or has lost its place, which the record of T23 tells.
    T20. While a key is kept, `Rule.FIRST` publishes nothing under it. After `window` the next one is published.
    T21. `Rule.DEBOUNCE` takes the place of a parcel that is parked: of a burst the last body is delivered, once, at its
         own due time. A parcel that is queued, held or gone is left as it is, and the new one is published.
    T22. `Rule.KEEP_LAST` takes the place of a parcel that is parked or queued. One that is held or gone is left as it
         is, and the new one is published.
    T23. A parcel that lost its place is never delivered, and its run has the record `Admission.replaced`,
         unless it was decided before; who waits for the run is woken.
    """

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        """Queue the parcels, in order; those with a `due` time not before it.

        Raises:
            Unavailable: Not confirmed; any of them may be queued.
            Rejected: Refused, none is queued.
        """
        ...

    async def receive(
        self, lanes: Sequence[Lane], limit: int, wait: timedelta, *, paused: bool = False
    ) -> list[Delivery]:
        """Take at most `limit` messages, waiting for the first."""
        ...

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        """Renew leases to their full length from now; from any thread."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forget the messages for good."""
        ...

    async def release(self, deliveries: Sequence[Delivery], delay: timedelta = timedelta()) -> None:
        """Give messages back, uncharged."""
        ...

    async def strike(self, delivery: Delivery) -> int:
        """Add one to the message's crash count, durably, and return it."""
        ...

    async def find(self, runs: Sequence[str]) -> list[str | None]:
        """Say where messages of these runs are."""
        ...

    async def queues(self) -> list[QueueInfo]:
        """List the queues that hold something or are paused."""
        ...

    async def pause(self, queue: str, *, paused: bool = True) -> None:
        """Stop, or go on, delivering from a queue."""
        ...

    async def move(self, source: str, target: str, limit: int) -> int:
        """Move ready messages from one queue to another."""
        ...

    async def admit(self, admissions: Sequence[Admission]) -> list[str]:
        """Publish parcels subject to their keys; answer the id of the parcel that now stands for each."""
        ...
