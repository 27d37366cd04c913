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
    """Refuse bytes that nest deeper than `limit`, or promise more members than they hold, before they are decoded.

    Terms count as a level. Most messages are cleared without a look at their structure: by their length, or because
    fewer bytes than `limit` could open a level at all. (A false promise in those costs nothing: msgspec reserves no
    more than it reads.)

    Raises:
        DecodeError: It nests deeper, or the scan met a promise that cannot hold.
    """
    if len(raw) <= limit:
        return
    data = bytes(raw)
    if len(data) - len(data.translate(None, _OPENERS)) <= limit:
        return
    segments = [(0, len(data), 0)]
    while segments:
        segments += _terms_within(data, *segments.pop(), limit)


def _terms_within(data: bytes, start: int, end: int, depth: int, limit: int) -> list[tuple[int, int, int]]:
    """Walk the one value in `data[start:end]` without recursion; say where in it the mappings of terms are."""
    terms: list[tuple[int, int, int]] = []
    left, owed, at = [1], 1, start  # members still to come: of each open level, and in all
    while owed and at + owed <= end:
        while not left[-1]:
            left.pop()
        left[-1] -= 1
        owed -= 1
        role, width, size = _SHAPES[data[at]]
        at += 1 + width
        if width:
            size *= int.from_bytes(data[at - width : at], "big")
        is_term = role == _EXT and data[at : at + 1] == _TERM_CODE
        if (role == _OPEN or is_term) and depth + len(left) > limit:
            raise DecodeError(f"it nests deeper than {limit} levels", data)
        if role == _OPEN:
            left.append(size)
            owed += size
            continue
        if is_term:
            terms.append((at + 1, at + 1 + size, depth + len(left)))
        at += size + (role == _EXT)
    if owed or at != end:
        raise DecodeError("it is cut short, or promises more than it holds", data)
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
_OPENERS: Final = bytes(byte for byte, (role, _, _) in enumerate(_SHAPES) if role != _BODY)
_TERM_CODE: Final = bytes([TERM])
