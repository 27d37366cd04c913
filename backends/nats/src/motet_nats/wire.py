"""What is in messages and records: versioned by their first field, arrays in msgpack."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from motet.errors import DecodeError
from motet.message import Parcel

__all__ = ["Kept", "Letter", "pack", "read_kept", "read_letter"]

VERSION = 1

pack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode


class Letter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A parcel in the stream. `nonce` is of this publish: it stays while the message goes from one holder to the next.

    `key` is the one that it was admitted under, if it can lose its place.
    """

    version: int
    id: str
    nonce: str
    suspect: bool
    deliveries: int
    key: str
    body: bytes


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record. `until` is when it goes, in milliseconds since 1970, 0 for never.

    A value that is too large for one message is in `parts` others, under `nonce`.
    """

    version: int
    until: int
    value: bytes
    parts: int = 0
    nonce: str = ""


_letter = msgspec.msgpack.Decoder(Letter)
_kept = msgspec.msgpack.Decoder(Kept)


def letter_of(parcel: Parcel, nonce: str, key: str = "") -> Letter:
    """Make a letter of a parcel."""
    return Letter(VERSION, parcel.id, nonce, parcel.suspect or parcel.due is not None, 0, key, parcel.body)


def read_letter(raw: bytes) -> Letter:
    """Read a letter.

    Raises:
        DecodeError: It is none.
    """
    try:
        return _letter.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"no message of ours: {error}", raw) from error


def read_kept(raw: bytes) -> Kept:
    """Read a record.

    Raises:
        DecodeError: It is none.
    """
    try:
        return _kept.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"no record of ours: {error}", raw) from error
