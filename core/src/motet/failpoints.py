"""Named places where a test may end or freeze the process, as tests/faults does.

`MOTET_FAILPOINTS="after_record=kill@3"` dies by SIGKILL at the third pass of that place; `stop` freezes the process by
SIGSTOP until somebody sends SIGCONT: a worker that has lost its leases and does not know it. Several are separated by
commas. Without the variable `hit` does nothing. A name that nobody knows is refused when a backend is opened.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["CLIENT", "CONTROL", "SETTLE", "WORKER", "hit", "known", "register", "unknown"]

SETTLE: Mapping[str, str] = {
    "before_settle": "an entry is about to be carried out; nothing of it is written",
    "after_record": "a write-once record is written, an outcome or a claim; nothing follows from it yet",
    "after_put": "a value, a page or a run's own record is written",
    "after_drop": "a record is removed",
    "after_open": "a barrier is made; none of its members is published",
    "after_arrive": "a slot is marked; what the last slot leads to is not published",
    "after_guard": "it was read whether a node is decided or closed already",
    "after_retry": "the next attempt is parked",
    "after_publish": "messages are published; the one that led to them is not acknowledged",
    "after_flag": "a cancelled scope is noted",
    "after_bury": "a dead letter is kept; the failure that it is about is not recorded",
    "before_ack": "all of an entry is done but its acknowledgement",
    "after_ack": "the message is acknowledged, and its worker has not heard of it",
}
"""Of the settler that goes op by op. An adapter that fuses them has places of its own."""

WORKER: Mapping[str, str] = {
    "after_receive": "a batch of messages is leased; none has begun",
    "before_run": "an attempt is about to call its task",
    "after_run": "a task has ended; nothing of that is recorded",
    "before_settle_batch": "a batch of outcomes is about to be settled",
    "after_settle_batch": "a batch is settled, and its worker has not heard of it",
}

CLIENT: Mapping[str, str] = {
    "between_pages": "some pages of a large plan are stored",
    "before_start": "all pages are stored; the run is not started",
    "before_submit": "the committing publish is next",
    "after_submit": "the run is accepted, and its client has not heard of it",
    "before_cancel": "nothing of a cancel is sent",
    "after_cancel_published": "the order that cancels is sent; the flag that makes it fast is not",
}

CONTROL: Mapping[str, str] = {
    "in_start": "the order to begin a run is read; nothing of it is carried out",
    "in_expand": "the order to begin the members of a group is read; nothing of it is carried out",
    "in_sweep": "some records of an ended run are removed, and some are not",
}


class _Armed(NamedTuple):
    number: signal.Signals
    at: int


def _parse(text: str) -> dict[str, _Armed]:
    """Read the variable; each place has one action."""
    actions = {"kill": "SIGKILL", "stop": "SIGSTOP"}
    points: dict[str, _Armed] = {}
    for part in filter(None, text.split(",")):
        name, _, action = part.partition("=")
        verb, _, count = action.partition("@")
        if verb not in actions or not (count or "1").isdigit() or count == "0":
            raise ValueError(f"MOTET_FAILPOINTS: {part!r} is not name=kill, name=stop or name=kill@n")
        points[name.strip()] = _Armed(signal.Signals[actions[verb]], int(count or 1))
    return points


_known: dict[str, str] = {**SETTLE, **WORKER, **CLIENT, **CONTROL}
_armed = _parse(os.environ.get("MOTET_FAILPOINTS", ""))
_hits: Counter[str] = Counter()


def register(points: Mapping[str, str]) -> Mapping[str, str]:
    """Make places known, each with a sentence that says what is done there and what is not; return them.

    An adapter calls it when it is imported. A name that core has too means the same there.
    """
    for name, sentence in points.items():
        _known.setdefault(name, sentence)
    return points


def known() -> dict[str, str]:
    """Return every place that this process has, with its sentence."""
    return dict(_known)


def unknown() -> str:
    """Say what is wrong with the places that are armed, or nothing; asked when all adapters in use are imported."""
    strangers = sorted(set(_armed) - set(_known))
    if not strangers:
        return ""
    return f"MOTET_FAILPOINTS names no known place with {', '.join(strangers)}; there are {', '.join(sorted(_known))}"


def _count(name: str) -> None:
    if name in _armed:
        _hits[name] += 1
        if _hits[name] == _armed[name].at:
            os.kill(os.getpid(), _armed[name].number)


def _pass(name: str) -> None:
    """Nothing is armed."""


hit: Callable[[str], None] = _count if _armed else _pass
