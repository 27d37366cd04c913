"""What travels and what is kept: versioned wire structs, arrays in msgpack, read with limits."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from motet.errors import DecodeError
from motet.options import Lane
from motet.outcome import ErrorInfo

__all__ = [
    "DeadLetter",
    "Key",
    "Message",
    "Order",
    "Parcel",
    "Place",
    "Record",
    "Ref",
    "State",
    "pack",
    "read_message",
    "read_record",
]

VERSION = 1
MESSAGE_LIMIT = 1024 * 1024
"""Bytes: what is larger is no message of ours, and is refused before anything of it is decoded."""


class Place(NamedTuple):
    """A node of a run. `segment` is empty in the plan that was submitted, and names a splice otherwise."""

    segment: str
    number: int

    def __str__(self) -> str:
        return f"{self.segment}.{self.number}" if self.segment else str(self.number)


class Key(NamedTuple):
    """Where a record is kept. All records of a run go with the run."""

    run: str
    name: str


class Order(enum.StrEnum):
    """What a message asks a worker to do. Only RUN names a task; the others need a plan and records alone."""

    RUN = "r"
    START = "s"
    EXPAND = "e"
    RESUME = "u"
    CANCEL = "c"
    TIMEOUT = "t"
    SWEEP = "w"
    JANITOR = "j"


class State(enum.StrEnum):
    """Terminal states of a node; write-once."""

    OK = "o"
    ERR = "e"
    CANCELLED = "c"


class Ref(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a value is: the outcome of a node, or (`stored`) a value of its own under that name."""

    run: str
    segment: str = ""
    node: int = 0
    stored: str = ""

    @property
    def place(self) -> Place:
        """The node that has, or leads to, the value."""
        return Place(self.segment, self.node)


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The wire form of everything a worker does; its size does not depend on the size of the run.

    `value` is the input, encoded; `source` says where to read it instead. `plan` is the plan's only page when
    that is small enough to travel.
    """

    version: int
    order: Order
    run: str
    segment: str = ""
    node: int = 0
    attempt: int = 1
    value: bytes | None = None
    source: Ref | None = None
    plan: bytes = b""
    detail: str = ""

    @property
    def place(self) -> Place:
        """The node that the message is about."""
        return Place(self.segment, self.node)


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A terminal outcome, as kept. A container's says where its value or its error is.

    `spawned` names the value that holds the runs which go with it, where a settlement may break off after its record.
    """

    state: State
    value: bytes | None = None
    source: Ref | None = None
    error: ErrorInfo | None = None
    at: float = 0.0
    spawned: str = ""


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """A message on its way: the id makes a second publish harmless while the first is queued."""

    id: str
    lane: Lane
    body: bytes
    due: datetime | None = None
    suspect: bool = False


encoder: msgspec.msgpack.Encoder = msgspec.msgpack.Encoder()
pack: Callable[[Any], bytes] = encoder.encode
"""Encode a wire struct."""


class DeadLetter(msgspec.Struct, frozen=True, array_like=True):
    """A message as it came, and why it was given up. `of` is the run that it was replayed from, if it was."""

    id: str
    lane: Lane
    task: str
    body: bytes
    error: ErrorInfo
    at: datetime
    of: str = ""


_message = msgspec.msgpack.Decoder(Message)
_record = msgspec.msgpack.Decoder(Record)


def read_message(raw: bytes) -> Message:
    """Read a message.

    Raises:
        DecodeError: The bytes are not a message, or one of a newer release.
    """
    if len(raw) > MESSAGE_LIMIT:
        raise DecodeError(f"{len(raw):,} bytes are more than the limit of {MESSAGE_LIMIT:,}", raw)
    try:
        message = _message.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error), raw) from error
    if message.version != VERSION:
        raise DecodeError(f"version {message.version} is not {VERSION}: upgrade this worker", raw)
    return message


def read_record(raw: bytes) -> Record:
    """Read an outcome record.

    Raises:
        DecodeError: The bytes are not a record.
    """
    try:
        return _record.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error), raw) from error
