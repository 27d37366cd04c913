"""Where processes are killed, or frozen: each named place, in whom, and with which work on hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

from motet.failpoints import CLIENT, CONTROL, SETTLE, WORKER
from motet_sqlite import FAILPOINTS

__all__ = ["LARGE", "MIXED", "POINTS", "Point"]

Who = Literal["worker", "submit", "cancel"]
LARGE = {"wide", "swept", "heavy"}
MIXED = ("chord", "steps", "spawning", "failing", "drawing", "cancelling")


@attrs.frozen
class Point:
    """A place, and how it is reached. `often` says that a worker passes it all the time."""

    name: str
    who: Who = "worker"
    ordered: bool = False
    stop: bool = False
    kinds: tuple[str, ...] = MIXED
    often: bool = True

    def armed(self, number: int) -> str:
        """What `MOTET_FAILPOINTS` is for the kill of this number: not always the first pass."""
        verb = "stop" if self.stop else "kill"
        return f"{self.name}={verb}@{1 + number * 3 % 7 if self.often else 1}"


NEEDS = {"in_start": ("wide",), "in_expand": ("wide",), "in_sweep": ("swept",), "after_bury": ("failing",)}
"""What passes a place that little else passes."""
RARE = {"after_bury", "after_drop", "after_flag", "after_retry"}


def workers(names: Iterable[str], *kinds: str, ordered: bool = False, stop: bool = False) -> tuple[Point, ...]:
    return tuple(
        Point(name, "worker", ordered, stop, kinds or NEEDS.get(name, MIXED), name not in NEEDS and name not in RARE)
        for name in names
    )


def clients(names: Iterable[str], *kinds: str, ordered: bool = False) -> tuple[Point, ...]:
    who: Who = "cancel" if "cancelling" in kinds else "submit"
    return tuple(Point(name, who, ordered, kinds=kinds, often=False) for name in names)


SUBMITS = ("before_submit", "after_submit")
OF_CLIENTS = tuple(name for name in FAILPOINTS if "receive" not in name)

POINTS: tuple[Point, ...] = (
    *workers((*WORKER, *CONTROL)),
    *workers(name for name in FAILPOINTS if "submit" not in name),
    *clients((*SUBMITS, *OF_CLIENTS), "chord", "steps"),
    *clients(("between_pages", "before_start"), "heavy"),
    *clients(("before_cancel", "after_cancel_published"), "cancelling"),
    *workers(("after_receive", "after_run", "before_settle_batch", "after_settle_batch"), stop=True),
    *workers(SETTLE, ordered=True),
    # Where a node's record and what follows from it may come apart, with what follows in most ways.
    *workers(("after_record", "after_publish"), "spawning", ordered=True),
    *workers(("after_record", "after_publish"), "steps", ordered=True),
    *clients((*SUBMITS, "after_record", "after_publish"), "chord", "steps", ordered=True),
    *workers(("after_record", "after_arrive", "before_ack"), ordered=True, stop=True),
)

_named = {*CLIENT, *CONTROL, *SETTLE, *WORKER, *FAILPOINTS}
assert {point.name for point in POINTS} == _named, _named - {point.name for point in POINTS}
