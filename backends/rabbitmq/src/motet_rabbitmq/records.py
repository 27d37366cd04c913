"""The records in a shard's queue, as an owner reads and writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from motet_rabbitmq.frames import Delivery
from motet_rabbitmq.state import Change
from motet_rabbitmq.wire import VERSION, Delta, Request, Tick, pack, read_record

__all__ = ["TooNew", "Written", "moved", "parts", "read"]

DELTA_MOST = 256 * 1024


class TooNew(Exception):
    """Raised when a record is of a later version: a newer worker shall own the shard (C8)."""


class Written(msgspec.Struct, frozen=True, gc=False):
    """A delta that has been sent."""

    body: bytes
    changes: list[Change]


def read(delivery: Delivery) -> Request | Delta | Tick:
    """Read a record.

    Raises:
        TooNew: It is of a later version, or of a kind that we do not know.
    """
    try:
        record = read_record(delivery.body)
    except msgspec.DecodeError as error:
        raise TooNew(f"a record of {delivery.routing_key} cannot be read: {error}") from error
    if record.version > VERSION:
        raise TooNew(f"a record of {delivery.routing_key} is of version {record.version}, and we know {VERSION}")
    return record


def moved(delivery: Delivery) -> bytes:
    """Write a record again as it was; that it was redelivered must not be forgotten."""
    record = read(delivery)
    if isinstance(record, Request) and delivery.redelivered:
        record = msgspec.structs.replace(record, again=True)
    return pack(record)


def parts(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Cut changes into deltas of some 256 KiB; a larger row has one of its own."""
    part: list[Change] = []
    size = 0
    for change in changes:
        weight = 64 + len(change.value or b"")
        if part and size + weight > DELTA_MOST:
            yield part
            part, size = [], 0
        part.append(change)
        size += weight
    if part:
        yield part
