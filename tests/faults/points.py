"""Where processes are killed, or frozen: each named place, in whom, and with which work on hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

from motet.failpoints import CLIENT, CONTROL, SETTLE, WORKER
from motet_nats import FAILPOINTS as OF_NATS
from motet_rabbitmq import FAILPOINTS as OF_RABBITMQ
from motet_redis import FAILPOINTS as OF_REDIS
from motet_sqlite import FAILPOINTS as OF_SQLITE

__all__ = ["LARGE", "MIXED", "POINTS", "Point"]

Who = Literal["worker", "submit", "cancel"]
On = Literal["sqlite", "ordered", "redis", "nats", "rabbitmq"]
"""SQLite, settled in one transaction; the same file, settled op by op; Redis; NATS, op by op too; or RabbitMQ."""
LARGE = {"wide", "swept", "heavy", "vast"}
MIXED = ("chord", "steps", "spawning", "failing", "drawing", "cancelling")


@attrs.frozen
class Point:
    """A place, and how it is reached. `often` says that a worker passes it all the time."""

    name: str
    who: Who = "worker"
    on: On = "sqlite"
    stop: bool = False
    kinds: tuple[str, ...] = MIXED
    often: bool = True
    feeder: str = ""
    """Where a victim dies that has not come to the place, so that there is what leads there: leases that are over."""

    def armed(self, number: int) -> str:
        """What `MOTET_FAILPOINTS` is for the kill of this number: not always the first pass."""
        verb = "stop" if self.stop else "kill"
        rest = f",{self.feeder}=kill@{10 + number * 7 % 20}" if self.feeder else ""
        return f"{self.name}={verb}@{1 + number * 3 % 7 if self.often else 1}{rest}"


NEEDS = {
    "in_start": ("wide",),
    "in_expand": ("wide",),
    "in_sweep": ("swept",),
    "after_bury": ("failing",),
    "between_parts": ("vast", "drawing"),
}
"""What passes a place that little else passes. Two messages after two messages would go to the same of four workers."""
RARE = {"after_bury", "after_drop", "after_flag", "after_pass_on", "after_retry", "after_withdrawn"}


def workers(
    names: Iterable[str], *kinds: str, on: On = "sqlite", stop: bool = False, feeder: str = ""
) -> tuple[Point, ...]:
    return tuple(
        Point(name, "worker", on, stop, kinds or NEEDS.get(name, MIXED), name not in NEEDS and name not in RARE, feeder)
        for name in names
    )


def clients(names: Iterable[str], *kinds: str, on: On = "sqlite") -> tuple[Point, ...]:
    who: Who = "cancel" if "cancelling" in kinds else "submit"
    return tuple(Point(name, who, on, kinds=kinds, often=False) for name in names)


SUBMITS = ("before_submit", "after_submit")
BY_PORTS = {"after_claim": "keyed", "after_fire": "fired", "after_letter": "replayed", "after_replay": "replayed"}
"""Places of clients that call a port for what core has no call for yet, and the work that passes them."""
LEFT = {"after_pass_on"}
"""Places that only what others have left leads to."""
LATE = ("after_receive", "after_run", "before_settle_batch", "after_settle_batch")


NEED_TIME = {"after_tick": ("waiting", "steps"), "before_compact": ("wide", "chord")}
"""Places of an owner of a shard that are passed now and then."""
SLOW = {"in_takeover", "after_takeover", *NEED_TIME}


def everywhere(on: On, own: Iterable[str], of_clients: Iterable[str]) -> tuple[Point, ...]:
    """The places of the worker and the client, and those of an adapter."""
    return (
        *workers((*WORKER, *(name for name in CONTROL if (on, name) != ("nats", "in_start")), *own), on=on),
        *clients((*SUBMITS, *of_clients), "chord", "steps", on=on),
        *clients(("between_pages", "before_start"), "heavy", on=on),
        *clients(("before_cancel", "after_cancel_published"), "cancelling", on=on),
        *workers(LATE, stop=True, on=on),
    )


POINTS: tuple[Point, ...] = (
    *everywhere("sqlite", (n for n in OF_SQLITE if "submit" not in n), (n for n in OF_SQLITE if "receive" not in n)),
    *workers(SETTLE, on="ordered"),
    # Where a node's record and what follows from it may come apart, with what follows in most ways.
    *workers(("after_record", "after_publish"), "spawning", on="ordered"),
    *workers(("after_record", "after_publish"), "steps", on="ordered"),
    *clients((*SUBMITS, "after_record", "after_publish"), "chord", "steps", on="ordered"),
    *workers(("after_record", "after_arrive", "before_ack"), on="ordered", stop=True),
    *everywhere("redis", ("before_settle", *OF_REDIS), ("after_script",)),
    *everywhere("nats", (*SETTLE, *sorted(set(OF_NATS) - set(BY_PORTS) - LEFT)), ("after_record", "between_parcels")),
    *workers(("in_start",), *MIXED, on="nats"),  # where settling is not atomic, every composition begins by an order
    *workers(LEFT, on="nats", feeder="before_ack"),
    *workers(("after_record", "after_publish", "between_parcels"), "spawning", on="nats"),
    *(point for name, kind in BY_PORTS.items() for point in clients((name,), kind, on="nats")),
    *workers(("after_record", "after_slot", "before_ack"), on="nats", stop=True),
    *everywhere("rabbitmq", ("before_settle", "before_ack", "after_ack", *sorted(set(OF_RABBITMQ) - SLOW)), ()),
    *(Point(name, on="rabbitmq", often=False) for name in ("in_takeover", "after_takeover")),
    *(Point(name, on="rabbitmq", kinds=kinds, often=False) for name, kinds in NEED_TIME.items()),
    *workers(("before_outputs", "after_outputs"), on="rabbitmq", stop=True),
)

_named = {*CLIENT, *CONTROL, *SETTLE, *WORKER, *OF_NATS, *OF_RABBITMQ, *OF_REDIS, *OF_SQLITE}
assert {point.name for point in POINTS} == _named, _named - {point.name for point in POINTS}
