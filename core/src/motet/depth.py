"""Limits that hold before anything is decoded: how large bytes may be, and how deep they may nest."""

from __future__ import annotations

import sys
from typing import Final

import msgspec

from motet.errors import DecodeError

__all__ = ["LIMITS", "TERM", "Limits", "check_depth"]

TERM: Final = 83
"""The msgpack extension code that marks a term; its payload is the term's mapping."""


class Limits(msgspec.Struct, frozen=True):
    """What is refused before anything is decoded: sizes in bytes, nesting in levels."""

    message: int = 1 << 20
    inline: int = 16 << 10
    depth: int = 64


LIMITS: Final = Limits()


def check_depth(raw: bytes | msgspec.Raw, limit: int = LIMITS.depth) -> None:
    """Refuse bytes that nest deeper than `limit`, before they are decoded and without recursion.

    Terms count as a level. Most messages are cleared without a look at their structure: by their length, or because
    fewer bytes than `limit` could open a level at all. The rest is walked, about 0.1 us per member. A header that
    promises more members than there are costs nothing: msgspec reserves no more than it reads.

    Raises:
        DecodeError: It nests deeper, or the walk met an end too early or too late.
    """
    if len(raw) <= limit:
        return
    data = bytes(raw)
    if len(data) - len(data.translate(None, _OPENERS)) <= limit:
        return
    values = [(data, 0)]
    try:
        while values:
            values += _terms_within(*values.pop(), limit)
    except IndexError:
        raise DecodeError("it is cut short", data) from None


def _terms_within(data: bytes, depth: int, limit: int) -> list[tuple[bytes, int]]:
    """Walk one value without recursion; return the mappings of the terms in it, and the levels above each."""
    terms: list[tuple[bytes, int]] = []
    above, here, at = [0], 1, 0  # members still to come: at the levels above, and at this one
    while True:
        while not here and above:
            here = above.pop()
        if not here:
            break
        here -= 1
        byte = data[at]
        if length := _PLAIN[byte]:
            at += length
            continue
        role, width, size = _SHAPES[byte]
        at += 1 + width
        if width:
            size *= int.from_bytes(data[at - width : at], "big")
        is_term = role == _EXT and data[at] == TERM
        if (role == _OPEN or is_term) and depth + len(above) > limit:
            raise DecodeError(f"it nests deeper than {limit} levels", data)
        if role == _OPEN:
            above.append(here)
            here = size
            continue
        if is_term:
            terms.append((data[at + 1 : at + 1 + size], depth + len(above)))
        at += size + (role == _EXT)
    if at != len(data):
        raise DecodeError("it is cut short, or goes on behind its end", data)
    return terms


def _shape(byte: int) -> tuple[int, int, int]:
    """Of a msgpack header byte: its role, the width of the length behind it, and its size or what a length counts."""
    if byte in _NAMED:
        return _NAMED[byte]
    if 0x80 <= byte <= 0x8F:
        return _OPEN, 0, 2 * (byte & 0x0F)
    if 0x90 <= byte <= 0x9F:
        return _OPEN, 0, byte & 0x0F
    return _BODY, 0, byte & 0x1F if 0xA0 <= byte <= 0xBF else 0


_BODY, _OPEN, _EXT = range(3)
_NAMED: Final = {
    0xC1: (_BODY, 0, sys.maxsize),  # never valid: longer than any message
    **{0xC4 + n: (_BODY, 1 << n, 1) for n in range(3)},  # bin
    **{0xC7 + n: (_EXT, 1 << n, 1) for n in range(3)},
    **{0xCA + n: (_BODY, 0, 4 << n) for n in range(2)},  # float
    **{0xCC + n: (_BODY, 0, 1 << n) for n in range(4)},  # uint
    **{0xD0 + n: (_BODY, 0, 1 << n) for n in range(4)},  # int
    **{0xD4 + n: (_EXT, 0, 1 << n) for n in range(5)},
    **{0xD9 + n: (_BODY, 1 << n, 1) for n in range(3)},  # str
    **{0xDC + n: (_OPEN, 2 << n, 1) for n in range(2)},  # array
    **{0xDE + n: (_OPEN, 2 << n, 2) for n in range(2)},  # map
}
_SHAPES: Final = [_shape(byte) for byte in range(256)]
_PLAIN: Final = [1 + size if role == _BODY and not width else 0 for role, width, size in _SHAPES]
_OPENERS: Final = bytes(byte for byte, (role, _, _) in enumerate(_SHAPES) if role != _BODY)
