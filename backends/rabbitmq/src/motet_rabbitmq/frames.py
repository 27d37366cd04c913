"""Messages as they go out and come in."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from motet.errors import DecodeError
from motet_rabbitmq.amqp import BODY, HEAD, HEADER, encode, short, table, untable

__all__ = ["Delivery", "Frame", "Properties", "marshal"]

HEADERS, MODE, CORRELATION, REPLY, EXPIRATION, ID, TIME, TYPE = (1 << bit for bit in (13, 12, 10, 9, 8, 7, 6, 5))
FIRST = struct.Struct(">BHIHHQH")
"""A frame of kind HEADER, up to the flags which say what properties follow."""
BASIC = 60
PERSISTENT = b"\x02"
OVERHEAD = 8
"""Bytes of a frame that are not its payload."""
KEPT = 8192
"""So many (exchange, routing key) are remembered as bytes."""


class Frame(msgspec.Struct, frozen=True):
    """A message to publish; to the default exchange its routing key is the name of a queue."""

    routing_key: str
    body: bytes
    exchange: str = ""
    headers: Mapping[str, Any] | None = None
    """Strings, bytes, booleans, integers of 64 bits, floats, None, datetimes, and lists and mappings of these."""
    message_id: str = ""
    expiration: int | None = None
    """Milliseconds after which the queue drops or dead-letters it."""
    mandatory: bool = True
    """Whether a message that no queue takes is an error, `Unroutable`."""
    persistent: bool = True


class Properties(msgspec.Struct):
    """What came beside a body."""

    headers: dict[str, Any]
    message_id: str = ""
    expiration: int | None = None
    persistent: bool = False
    timestamp: int = 0
    """Seconds since 1970; 0 for none."""
    type: str = ""
    correlation_id: str = ""
    reply_to: str = ""


class Delivery(msgspec.Struct, gc=False):
    """A message held by a channel: `tag` settles it there, and means nothing elsewhere."""

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    body: bytes
    raw: bytes
    """Its properties, not read yet."""

    @property
    def properties(self) -> Properties:
        """Read what came beside the body; keep the answer, for each call reads anew (some 5 us).

        Raises:
            DecodeError: Somebody else has published it, with headers that RabbitMQ has no types for.
        """
        return self._properties(headers=True)

    @property
    def headers(self) -> dict[str, Any]:
        """Read the headers; the same holds.

        Raises:
            DecodeError: As by `properties`.
        """
        return self.properties.headers

    @property
    def message_id(self) -> str:
        """Read the id alone, past the headers (some 2 us).

        Raises:
            DecodeError: As by `properties`.
        """
        return self._properties(headers=False).message_id

    def _properties(self, *, headers: bool) -> Properties:
        try:
            return _read(self.raw, headers=headers)
        except (ValueError, IndexError, RecursionError, struct.error) as error:
            raise DecodeError(f"properties that cannot be read: {error}", self.raw) from error


@lru_cache(KEPT)
def _target(channel: int, exchange: str, key: str, mandatory: bool) -> bytes:
    return encode(channel, "basic.publish", 0, exchange, key, mandatory, False)


def marshal(frames: Sequence[Frame], channel: int, limit: int) -> list[bytes]:
    """Make the bytes of messages, in pieces; `limit` is the greatest frame that the broker takes.

    Raises:
        TypeError: A header is of no type that one can have.
        ValueError: A name of more than 255 bytes.
    """
    made: list[bytes] = []
    room = limit - OVERHEAD
    for frame in frames:
        flags, kept = 0, b""
        if frame.headers:
            flags, kept = HEADERS, table(frame.headers)
        if frame.persistent:
            flags, kept = flags | MODE, kept + PERSISTENT
        if frame.expiration is not None:
            flags, kept = flags | EXPIRATION, kept + short(str(frame.expiration))
        if frame.message_id:
            flags, kept = flags | ID, kept + short(frame.message_id)
        body = frame.body
        size = len(body)
        made += (
            _target(channel, frame.exchange, frame.routing_key, frame.mandatory),
            FIRST.pack(HEADER, channel, 14 + len(kept), BASIC, 0, size, flags),
            kept,
            b"\xce",
        )
        if 0 < size <= room:
            made += (HEAD.pack(BODY, channel, size), body, b"\xce")
        else:
            for at in range(0, size, room):
                part = body[at : at + room]
                made += (HEAD.pack(BODY, channel, len(part)), part, b"\xce")
    return made


def _read(raw: bytes, *, headers: bool) -> Properties:
    """Read the flags, and what they say follows."""
    flags, at = raw[0] << 8 | raw[1], 2
    found = Properties({})
    for flag in (1 << 15, 1 << 14):  # content type and encoding, which say nothing to us
        if flags & flag:
            at += 1 + raw[at]
    if flags & HEADERS and headers:
        found.headers, at = untable(raw, at)
    elif flags & HEADERS:
        at += 4 + int.from_bytes(raw[at : at + 4], "big")
    if flags & MODE:
        found.persistent, at = raw[at] == 2, at + 1
    if flags & 1 << 11:  # priority
        at += 1
    if flags & CORRELATION:
        found.correlation_id, at = _short(raw, at)
    if flags & REPLY:
        found.reply_to, at = _short(raw, at)
    if flags & EXPIRATION:
        said, at = _short(raw, at)
        found.expiration = int(said) if said.isdecimal() else None
    if flags & ID:
        found.message_id, at = _short(raw, at)
    if flags & TIME:
        found.timestamp, at = int.from_bytes(raw[at : at + 8], "big"), at + 8
    if flags & TYPE:
        found.type, at = _short(raw, at)
    return found


def _short(raw: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + raw[at]
    return raw[at + 1 : end].decode("utf-8", "replace"), end
