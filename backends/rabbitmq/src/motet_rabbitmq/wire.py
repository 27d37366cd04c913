"""What is written into the queue of a shard, and what an owner answers: versioned, arrays in msgpack."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from motet_rabbitmq.state import Change

__all__ = [
    "VERSION",
    "Asked",
    "Delta",
    "Record",
    "Replies",
    "Reply",
    "Request",
    "Status",
    "Tick",
    "pack",
    "pack_request",
    "read_record",
    "read_replies",
]

VERSION = 1
"""Of records: an owner that meets a higher one leaves its shard to a newer worker (C8)."""


class Asked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One call: a method by name, and its arguments."""

    method: str
    arguments: bytes


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="q"):
    """Calls, and who waits for the answers: a queue and a number, or nobody. `again` says that it was here before."""

    version: int
    asked: list[Asked]
    reply_to: str = ""
    number: int = 0
    again: bool = False


class Delta(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="d"):
    """Changes that an owner has committed."""

    version: int
    epoch: str
    changes: list[Change]


class Tick(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="t"):
    """What time it is, by the owner of that epoch. The first of an epoch marks where the log ended (C7)."""

    version: int
    epoch: str
    now: float


class Status(enum.IntEnum):
    """How a call ended."""

    DONE = 0
    REFUSED = 1
    FULL = 2
    UNKNOWN = 3


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to a call, or why there is none."""

    status: Status
    value: bytes


class Replies(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answers to a request."""

    number: int
    replies: list[Reply]


Record: TypeAlias = Request | Delta | Tick

pack: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
read_record: Callable[[bytes], Record] = msgspec.msgpack.Decoder(Record).decode
read_replies: Callable[[bytes], Replies] = msgspec.msgpack.Decoder(Replies).decode


def pack_request(asked: Sequence[Asked], reply_to: str = "", number: int = 0, *, again: bool = False) -> bytes:
    """Write a request."""
    return pack(Request(VERSION, list(asked), reply_to, number, again))
