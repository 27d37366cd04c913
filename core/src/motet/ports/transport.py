"""Moving messages from whoever sends them to a worker, at least once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import msgspec

from motet.message import Parcel
from motet.options import Lane

__all__ = ["Delivery", "QueueInfo", "Transport"]


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
         raise it, and `release`, reconnects and lock waits never do (C10).
    T12. A paused queue delivers nothing until it is resumed; what is held stays held. Pausing survives restarts.
    T13. `find` says for each run whether a message of it is "queued", "parked" or "held", or None. The run is the
         part of a parcel's id before the first colon.
    T14. A parcel published with `suspect`, or with `due`, is delivered as suspect.
    """

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        """Queue the parcels, in order; those with a `due` time not before it.

        Raises:
            Unavailable: Not confirmed; any of them may be queued.
            Rejected: Refused, none is queued.
        """
        ...

    async def receive(self, lanes: Sequence[Lane], limit: int, wait: timedelta) -> list[Delivery]:
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
