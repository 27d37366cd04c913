"""What queues and exchanges of a namespace are called, and with which arguments they are made."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from motet.options import Lane
from motet_rabbitmq.machine import CONTROL, Layout

__all__ = ["ENDED", "LANE", "SHARD", "Names", "ended"]

NEVER = 2_000_000_000
"""A delivery limit that nothing reaches: -1 drops at the first redelivery on 3.10, and leaving it out drops on 4.0."""
LANE: Mapping[str, Any] = MappingProxyType({"x-queue-type": "quorum", "x-delivery-limit": NEVER})
SHARD: Mapping[str, Any] = MappingProxyType({**LANE, "x-single-active-consumer": True})

ENDED = "ended."
"""What the keys begin with by which shards tell of runs that have ended, many at a time."""


def ended(run: str) -> str:
    """The topic of a run's end."""
    return f"{ENDED}{run}"


class Names:
    """All names of one namespace."""

    def __init__(self, namespace: str, shards: int) -> None:
        self.root = f"motet.{namespace}"
        self.shards = shards
        self.layout = Layout(shards, self.lane, self.shard)

    def lane(self, lane: Lane) -> str:
        return f"{self.root}.lane.{lane.queue}:{lane.size}:{lane.priority}"

    def shard(self, index: int) -> str:
        return f"{self.root}.control" if index == CONTROL else f"{self.root}.shard.{index}"

    def key(self, topic: str) -> str:
        """By which key one is told of a topic: a notice, or the end of a run."""
        return f"{ENDED}{self.layout.of(topic.removeprefix(ENDED))}" if topic.startswith(ENDED) else topic

    @property
    def owners(self) -> str:
        """The queue that nothing is sent to: its consumers are the processes that work."""
        return f"{self.root}.owners"

    @property
    def clients(self) -> str:
        """The same for every open client that receives."""
        return f"{self.root}.clients"

    @property
    def wake(self) -> str:
        """The exchange for whoever waits for a run, and for notices."""
        return f"{self.root}.wake"

    @property
    def all(self) -> tuple[int, ...]:
        """Every shard, the control shard first: it has what most processes need at once."""
        return (CONTROL, *range(self.shards))
