"""What is sent to the scripts, and what comes back: msgpack without its type for bytes, which Redis does not know."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import msgspec

from motet.engine.wellformed import check_aware
from motet.errors import UsageError
from motet.message import DeadLetter, Parcel, pack
from motet.options import Lane
from motet.ports import Delivery, Entry
from motet.program import Arrive, Bury, Do, Drop, Flag, Guard, Once, Op, Open, Publish, Put, Retry

__all__ = [
    "PUBLISH",
    "SLICE",
    "Coded",
    "batch",
    "code",
    "delivery_of",
    "encode",
    "entry",
    "instant",
    "lane_name",
    "microseconds",
    "milliseconds",
    "pairs",
    "parcel",
    "program",
    "raw",
    "slices",
    "sortable",
    "weigh",
]

encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode

T = TypeVar("T")
Coded = tuple[Any, ...]

BRANCHES = 256
"""Branches of arrivals that are kept as they were written."""

NEVER = -1
PUBLISH, DO = 8, 11
"""Kinds of ops that send: see `lua/settle.lua`, which has all."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGINNING = -62_135_683_200_000_000
"""Microseconds before all instants: the year 1, and a day for the time zones that are ahead."""


def raw(value: bytes) -> msgspec.Raw:
    """Write bytes as a text of msgpack: Lua has one type for both, and cmsgpack refuses the other."""
    return msgspec.Raw(b"\xdb" + len(value).to_bytes(4, "big") + value)


def milliseconds(duration: timedelta | None) -> int:
    """Whole milliseconds, never fewer than were asked for; -1 stands for none."""
    return NEVER if duration is None else max(0, math.ceil(duration.total_seconds() * 1000))


def instant(moment: datetime) -> int:
    """Milliseconds since 1970, never before the moment."""
    return math.ceil(moment.timestamp() * 1000)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def sortable(moment: datetime) -> str:
    """An instant as a text of 18 digits, in whose order instants are; exact, whatever the year.

    Raises:
        UsageError: It has no time zone.
    """
    check_aware(moment)
    return f"{microseconds(moment) - BEGINNING:018d}"


def pairs(flat: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    """Read a reply that has names and values by turns."""
    return zip(flat[::2], flat[1::2], strict=True)


SLICE = 250
"""So many things go into one script call, which then takes the server a few milliseconds at most."""


def slices(values: Sequence[T], size: int = SLICE) -> list[Sequence[T]]:
    """Cut what is to be sent into parts of one script call each."""
    return [values[first : first + size] for first in range(0, len(values), size)]


class Label(NamedTuple):
    """What the wire says of a lane: its name, and what stands before a body in it, fresh or suspect."""

    name: str
    heads: tuple[bytes, bytes]


_labels: dict[Lane, Label] = {}


def label(lane: Lane) -> Label:
    """The label of a lane, which is made once; its heads are as `lua/messages.lua` has them."""
    found = _labels.get(lane)
    if found is None:
        if len(_labels) > 10_000:
            _labels.clear()
        text = str(lane)
        name = text.encode()
        if len(name) > 255:
            raise UsageError(f"a lane of more than 255 bytes: {lane}")
        fresh, suspect = (bytes([flag, 0, 0, len(name)]) + name for flag in (False, True))
        found = _labels[lane] = Label(text, (fresh, suspect))
    return found


def lane_name(lane: Lane) -> str:
    """The name of a lane."""
    return label(lane).name


def parcel(given: Parcel) -> tuple[Any, ...]:
    """A parcel as `messages.lua` has it."""
    name, (fresh, suspect) = label(given.lane)
    if given.due is None and not given.suspect:
        return given.id, name, NEVER, raw(fresh + given.body)
    return given.id, name, NEVER if given.due is None else instant(given.due), raw(suspect + given.body)


def code(op: Op) -> tuple[Any, ...]:
    """An op as `settle.lua` has it."""
    match op:
        case Once():
            return 1, op.key.run, op.key.name, raw(op.value), milliseconds(op.ttl), op.ends
        case Put():
            return 2, op.key.run, op.key.name, raw(op.value), milliseconds(op.ttl)
        case Drop():
            return 3, op.key.run, op.key.name
        case Open():
            return 4, op.key.run, op.key.name, op.size, op.max_failed, op.fast
        case Arrive():
            return 5, op.key.run, op.key.name, op.slot, op.failed, branch(op.then_ok), branch(op.then_err)
        case Guard():
            return 6, *(part for key in op.keys for part in key)
        case Retry():
            return 7, op.key.run, op.key.name, milliseconds(op.ttl), parcel(op.parcel)
        case Publish():
            return PUBLISH, [parcel(each) for each in op.parcels]
        case Flag():
            return 9, scope(op)
        case Bury():
            return 10, *letter(op.letter)
        case Do():
            return DO, program(op.ops)


def program(ops: Sequence[Op]) -> list[tuple[Any, ...]]:
    """A program as `settle.lua` has it."""
    return [code(op) for op in ops]


class Branch:
    """What hangs from an arrival, written, for the script to read only if it comes to that."""

    __slots__ = ("raw",)

    def __init__(self, ops: Sequence[Op]) -> None:
        self.raw = raw(_whole.encode(program(ops)))


_whole = msgspec.msgpack.Encoder(enc_hook=lambda branch: branch.raw)
_branches: dict[int, tuple[Sequence[Op], Branch]] = {}


def branch(ops: Sequence[Op]) -> Branch:
    """Write what hangs from an arrival. All members of a group have the very same, so that it is written once."""
    known = _branches.get(id(ops))
    if known is not None and known[0] is ops:
        return known[1]
    if len(_branches) > BRANCHES:
        _branches.clear()
    _branches[id(ops)] = ops, Branch(ops)
    return _branches[id(ops)][1]


def batch(entries: Sequence[Coded]) -> tuple[bytes, bytes]:
    """Entries, and the branches in them, which they name by their place: a branch travels once in a batch."""
    places: dict[Branch, int] = {}
    encoder = msgspec.msgpack.Encoder(enc_hook=lambda branch: places.setdefault(branch, len(places) + 1))
    return encoder.encode(entries), encode([branch.raw for branch in places])


def weigh(ops: Sequence[tuple[Any, ...]]) -> int:
    """Count the messages that a program sends for certain: what else it does costs the server little."""
    return sum(len(op[1]) if op[0] == PUBLISH else weigh(op[1]) for op in ops if op[0] in (PUBLISH, DO))


def scope(flag: Flag) -> msgspec.Raw:
    """A cancelled scope; opaque to the scripts."""
    return raw(pack((flag.run, flag.segment, flag.first, flag.last)))


def letter(given: DeadLetter) -> tuple[str, str, msgspec.Raw]:
    """A dead letter: its id, when it died, and all of it."""
    return given.id, sortable(given.at), raw(pack(given))


def entry(given: Entry) -> Coded:
    """An entry as `settle.lua` has it."""
    receipt = "" if given.delivery is None else given.delivery.receipt
    owner = "" if given.settlement is None else given.settlement.release
    return receipt, owner, program(given.program)


def delivery_of(fetch: str, lane: Lane, id: str, value: bytes) -> Delivery:
    """Read what a fetch has brought."""
    return Delivery(f"{fetch}#{id}", id, lane, value[4 + value[3] :], value[1] + 1, value[0] != 0)
