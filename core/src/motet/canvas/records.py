"""What a run leaves in a backend: the names of its records and of its messages."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from motet.canvas.plan import Header, Leaf, Plan
from motet.message import Key, Message, Parcel, Place, Record, pack
from motet.options import CONTROL
from motet.program import Drop, Once, Op

__all__ = [
    "INPUT",
    "ROOT",
    "ROOT_OUTCOME",
    "RUN",
    "RunInfo",
    "attempt_key",
    "barrier_key",
    "claim_key",
    "closed_key",
    "control",
    "let_go",
    "lifetime",
    "only",
    "outcome_key",
    "parcel_id",
    "single",
    "splice_children",
    "splice_key",
]

RUN = "r"
CLAIMS = "given-ids"
INPUT = "v.input"
ROOT = Place("", 0)
ROOT_OUTCOME = "o.0"


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


def splice_children(run: str, segment: str) -> Key:
    """Where the runs are kept that a replaced task asked for besides."""
    return Key(run, f"w.{segment}")


def splice_key(run: str, place: Place) -> Key:
    """Where the replacement of a leaf is named."""
    return Key(run, f"s.{place}")


def single(plan: Plan) -> Header | None:
    """Return the header if the run is one undecorated call, whose only record expires by itself."""
    page = plan.page("", 0)
    header, node = page.header, page.nodes[0]
    if header is None or header.size != 1 or header.given:
        return None
    return header if isinstance(node, Leaf) and node.scope is None and not node.stored else None


@lru_cache(256)
def lifetime(ttl: float) -> timedelta:
    """Seconds as a duration, made once for each task's `result_ttl`."""
    return timedelta(seconds=ttl)


def only(run: str, header: Header, record: Record) -> Once:
    """The one record of a run of one call. It expires by itself; nothing is around it, and nothing waits for it."""
    if header.discard and record.value is not None:
        record = Record(record.state, at=record.at)
    return Once(Key(run, ROOT_OUTCOME), pack(record), lifetime(header.ttl), True)


def let_go(run: str, header: Header) -> list[Op]:
    """A run has ended that read from another one's records: that one may be swept."""
    return [Drop(Key(header.kin, f"k.{run}"))] if header.kin else []


def parcel_id(message: Message) -> str:
    """Name a message so that the same one, published again, is known while the first is queued."""
    place = f"{message.segment}.{message.node}" if message.segment else message.node
    return f"{message.run}:{place}:{message.order}{message.attempt}"


def control(message: Message, due: datetime | None = None, *, suffix: str = "") -> Parcel:
    """Wrap an internal message that a client or a worker makes by itself."""
    return Parcel(parcel_id(message) + suffix, CONTROL, pack(message), due)
