"""What the records and messages of a run are called: names that any process can work out again."""

from __future__ import annotations

from datetime import datetime

import msgspec

from motet.message import Key, Message, Parcel, Place, pack
from motet.options import CONTROL

__all__ = [
    "CLAIMS",
    "INPUT",
    "RUN",
    "RunInfo",
    "attempt_key",
    "barrier_key",
    "claim_key",
    "closed_key",
    "control",
    "outcome_key",
    "parcel_id",
    "splice_key",
]

RUN = "r"
CLAIMS = "given-ids"
INPUT = "v.input"


class RunInfo(msgspec.Struct, frozen=True, array_like=True):
    """The run's own record: it exists from submit to sweep. `given` says that the user chose the id."""

    name: str
    size: int
    leaves: int
    created: float
    ttl: float
    given: bool = False
    origin: str = ""


def outcome_key(run: str, place: Place) -> Key:
    """Where a node's outcome is kept."""
    segment, number = place
    return Key(run, f"o.{segment}.{number}" if segment else f"o.{number}")


def barrier_key(run: str, place: Place) -> Key:
    """Where a group's barrier is kept."""
    return Key(run, f"b.{place}")


def closed_key(run: str, place: Place) -> Key:
    """The mark of a scope that ended early: nothing in it continues."""
    return Key(run, f"x.{place}")


def claim_key(run: str) -> Key:
    """The claim of an id that a user chose; it outlives the run's records (H5)."""
    return Key(CLAIMS, run)


def attempt_key(run: str, place: Place, attempt: int) -> Key:
    """The mark of an attempt that has been scheduled."""
    return Key(run, f"a.{place}.{attempt}")


def splice_key(run: str, place: Place) -> Key:
    """Where the replacement of a leaf is named."""
    return Key(run, f"s.{place}")


def parcel_id(message: Message) -> str:
    """Name a message so that the same one, published again, is known while the first is queued."""
    place = f"{message.segment}.{message.node}" if message.segment else message.node
    return f"{message.run}:{place}:{message.order}{message.attempt}"


def control(message: Message, due: datetime | None = None, *, suffix: str = "") -> Parcel:
    """Wrap an internal message that a client or a worker makes by itself."""
    return Parcel(parcel_id(message) + suffix, CONTROL, pack(message), due)
