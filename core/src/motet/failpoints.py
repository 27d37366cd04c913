"""Named places where a test may kill the process: `MOTET_FAILPOINTS="after_commit=kill@3"` dies at the third hit.

Without that variable `hit` does nothing.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable

__all__ = ["hit"]


def _parse(text: str) -> dict[str, int]:
    points: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, action = part.partition("=")
        verb, _, count = action.partition("@")
        if verb != "kill":
            raise ValueError(f"MOTET_FAILPOINTS: {part!r} is not name=kill or name=kill@n")
        points[name.strip()] = int(count or 1)
    return points


_points = _parse(os.environ.get("MOTET_FAILPOINTS", ""))
_hits: Counter[str] = Counter()


def _count(name: str) -> None:
    if name in _points:
        _hits[name] += 1
        if _hits[name] == _points[name]:
            os.kill(os.getpid(), signal.SIGKILL)


def _pass(name: str) -> None:
    """Nothing is armed."""


hit: Callable[[str], None] = _count if _points else _pass
