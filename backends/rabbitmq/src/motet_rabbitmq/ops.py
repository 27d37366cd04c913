"""The ops of a program, and parcels, as they travel to a shard: the core's own structs, with a tag and as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TypeAlias

from motet.message import Parcel
from motet.program import Arrive, Bury, Do, Drop, Flag, Guard, Once, Op, Open, Publish, Put, Retry

__all__ = [
    "WireFlag",
    "WireOnce",
    "WireOp",
    "WireOpen",
    "WireParcel",
    "WirePut",
    "flag",
    "once",
    "opened",
    "parcel",
    "program",
    "put",
]


class WireParcel(Parcel, frozen=True, gc=False, array_like=True):
    """A parcel."""


class WireOnce(Once, frozen=True, gc=False, array_like=True, tag="o"):
    """Once."""


class WirePut(Put, frozen=True, gc=False, array_like=True, tag="p"):
    """Put."""


class WireDrop(Drop, frozen=True, gc=False, array_like=True, tag="d"):
    """Drop."""


class WireOpen(Open, frozen=True, gc=False, array_like=True, tag="n"):
    """Open."""


class WireFlag(Flag, frozen=True, gc=False, array_like=True, tag="f"):
    """Flag."""


class WireGuard(Guard, frozen=True, array_like=True, tag="g"):
    """Guard."""


class WireBury(Bury, frozen=True, array_like=True, tag="b"):
    """Bury."""


class WireRetry(Retry, frozen=True, array_like=True, tag="r"):
    """Retry."""

    parcel: WireParcel
    ttl: timedelta | None = None


class WirePublish(Publish, frozen=True, array_like=True, tag="q"):
    """Publish."""

    parcels: tuple[WireParcel, ...]


class WireArrive(Arrive, frozen=True, array_like=True, tag="a"):
    """Arrive."""

    then_ok: Sequence[WireOp] = ()
    then_err: Sequence[WireOp] = ()


class WireDo(Do, frozen=True, array_like=True, tag="w"):
    """Do."""

    ops: Sequence[WireOp]


WireOp: TypeAlias = (
    WireOnce
    | WirePut
    | WireDrop
    | WireOpen
    | WireFlag
    | WireGuard
    | WireBury
    | WireRetry
    | WirePublish
    | WireArrive
    | WireDo
)


def parcel(given: Parcel) -> WireParcel:
    """Write a parcel as it travels."""
    return WireParcel(given.id, given.lane, given.body, given.due, given.suspect)


def once(op: Once) -> WireOnce:
    """Write a record as it travels; the same holds for those below."""
    return op if isinstance(op, WireOnce) else WireOnce(op.key, op.value, op.ttl, op.ends)


def put(op: Put) -> WirePut:
    """Write a value."""
    return WirePut(op.key, op.value, op.ttl)


def opened(op: Open) -> WireOpen:
    """Write a barrier."""
    return WireOpen(op.key, op.size, op.max_failed, op.fast)


def flag(op: Flag) -> WireFlag:
    """Write a flag."""
    return WireFlag(op.run, op.segment, op.first, op.last)


def program(ops: Iterable[Op]) -> list[WireOp]:
    """Write a program as it travels."""
    return [_wired(op) for op in ops]


def _wired(op: Op) -> WireOp:
    match op:
        case Once():
            return once(op)
        case Put():
            return put(op)
        case Drop():
            return WireDrop(op.key)
        case Open():
            return opened(op)
        case Flag():
            return flag(op)
        case Guard():
            return WireGuard(op.keys)
        case Bury():
            return WireBury(op.letter)
        case Retry():
            return WireRetry(op.key, parcel=parcel(op.parcel), ttl=op.ttl)
        case Publish():
            return WirePublish(tuple(parcel(each) for each in op.parcels))
        case Arrive():
            return WireArrive(op.key, op.slot, op.failed, program(op.then_ok), program(op.then_err))
        case Do():
            return WireDo(program(op.ops))
