"""The brokers of the comparison: the server of each, who is compared on it, and what ours should be to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from nats_server import NatsServer
from nats_server import find as find_nats
from peers.table import MOTET, ON_NATS, ON_RABBITMQ, ON_REDIS, Peer
from rabbitmq_server import RabbitServer
from rabbitmq_server import find as find_rabbitmq
from redis_server import RedisServer, program

__all__ = ["NATS", "RABBITMQ", "REDIS", "BenchServer", "Broker"]


class BenchServer(Protocol):
    """A server that can be emptied."""

    port: int

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    @property
    def version(self) -> str:
        """What it says that it is."""
        ...

    def clear(self) -> None:
        """Empty it."""
        ...


@dataclass(frozen=True)
class Broker:
    """One broker; `name` is the scheme of its URLs. `targets` are by the row: the floor and the aim."""

    name: str
    title: str
    server: Callable[[], AbstractContextManager[BenchServer]]
    peers: tuple[Peer, ...]
    targets: Mapping[str, tuple[str, str]]
    stages: tuple[str, ...]
    against: Mapping[str, tuple[str, str]]
    """Whom the floor of a row is about, and whom its aim; without, the best peer."""
    kept: str
    """What becomes of what the server is given."""
    ours: Peer = MOTET

    @property
    def heading(self) -> str:
        """What its section is called."""
        return f"## The peers on {self.title}"

    @property
    def sections(self) -> tuple[str, ...]:
        """What can be chosen of it."""
        return tuple(f"{self.name}-{stage}" for stage in self.stages)


REDIS = Broker(
    name="redis",
    title="Redis",
    server=lambda: RedisServer(program(), aof=False),
    peers=ON_REDIS,
    targets={
        "drain": (">= 10 x", ">= 25 x"),
        "drain results": (">= 10 x", ">= 20 x"),
        "enqueue": (">= 1.2 x", ">= 2 x"),
        "bulk": (">= 8 x", ">= 20 x"),
        "round trip": ("<= 0.6 x", "<= 0.3 x"),
        "chord": (">= 10 x", ">= 25 x"),
        "chords": (">= 10 x", ">= 25 x"),
        "chain": ("<= 0.5 x", "<= 0.3 x"),
    },
    stages=("drains", "results", "enqueues", "latencies", "sleeps"),
    against={"round trip": ("celery", "huey"), "chain": ("taskiq-stream", "huey")},
    kept="nothing kept on disk",
)
NATS = Broker(
    name="nats",
    title="NATS",
    server=lambda: NatsServer(find_nats()),
    peers=ON_NATS,
    targets={"drain": (">= 2.5 x", ">= 5 x"), "bulk": (">= 2 x", ">= 3 x"), "round trip": ("<= 0.2 x", "<= 0.1 x")},
    stages=("drains", "results", "enqueues", "latencies", "sleeps"),
    against={},
    kept="streams in files",
)
RABBITMQ = Broker(
    name="amqp",
    title="RabbitMQ",
    server=lambda: RabbitServer(find_rabbitmq()),
    peers=ON_RABBITMQ,
    targets={"drain": (">= 2.5 x", ">= 5 x"), "bulk": (">= 2.5 x", ">= 5 x")},
    stages=("drains", "results", "enqueues", "latencies", "sleeps"),
    against={},
    kept="queues on disk, quorum queues where the library can use them",
    ours=replace(MOTET, tasks=30_000),
)
