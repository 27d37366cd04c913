"""Ids that can be computed again: the same run and place give the same id in every process and attempt."""

from __future__ import annotations

import hashlib
import re

from motet.errors import UsageError

__all__ = ["check_id", "derive"]

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 22
PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
VALID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def derive(*parts: str | int) -> str:
    """Return 22 base62 characters (131 bits, SHA-256) that depend on the parts and their order alone."""
    text = "\x1f".join(str(part) for part in parts)
    return shorten(int.from_bytes(hashlib.sha256(text.encode()).digest()[:17]))


def shorten(number: int, length: int = LENGTH) -> str:
    """Write a number in base62 characters, an even count of them, dropping what does not fit."""
    pairs: list[str] = []
    for _ in range(length // 2):
        number, pair = divmod(number, 3844)
        pairs.append(PAIRS[pair])
    return "".join(reversed(pairs))


def check_id(given: str) -> str:
    """Let an id of the user pass if every broker can carry it.

    Raises:
        UsageError: It is empty, longer than 64, or holds other characters than letters, digits, `-` and `_`.
    """
    if not VALID.fullmatch(given):
        raise UsageError(f"id {given!r}: use 1 to 64 letters, digits, '-' and '_'")
    return given
