"""Several Redis servers that belong together: a cluster, or a primary with its replica and a sentinel."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_process import HOST, SLOTS, RedisServer, text, wait_until

__all__ = ["Cluster", "Sentinel", "Watched", "start_cluster", "start_sentinel"]


class Together:
    """Servers that start and stop together."""

    def __init__(self, servers: Sequence[RedisServer]) -> None:
        self.servers = servers

    def start(self) -> None:
        """Start all, and let them find each other."""
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._come_up()
            undo.pop_all()

    def _come_up(self) -> None:
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        """Stop all."""
        for server in reversed(self.servers):
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Cluster(Together):
    """Some nodes that share the slots."""

    @property
    def url(self) -> str:
        """Name all nodes."""
        return f"redis+cluster://{','.join(f'{HOST}:{node.port}' for node in self.servers)}"

    def holder(self, key: str) -> RedisServer:
        """Return the node that was given the slot of a key in the beginning."""
        slot = int(self.servers[0].command("CLUSTER", "KEYSLOT", key))
        return next(node for node in self.servers if slot in node.slots)

    def _come_up(self) -> None:
        super()._come_up()
        for number, node in enumerate(self.servers, 1):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number)
        for node in self.servers[1:]:
            node.command("CLUSTER", "MEET", HOST, self.servers[0].port)
        self.wait_until_joined()

    def restart(self, *nodes: RedisServer) -> None:
        """Kill some nodes, or all, start them again, and wait until the cluster serves all slots."""
        for node in nodes or self.servers:
            node.kill()
        for node in nodes or self.servers:
            node.start()
        self.wait_until_joined()

    def wait_until_joined(self) -> None:
        """Wait until each node knows all others, and that all slots are served."""
        for node in self.servers:
            wait_until(partial(self._joined, node), f"{node.url} does not find the others")

    def _joined(self, node: RedisServer) -> bool:
        known = text(node.command("CLUSTER", "NODES"))
        return node.healthy() and "handshake" not in known and len(known.splitlines()) == len(self.servers)


class Sentinel(RedisServer):
    """A sentinel that watches one primary under a name, and replaces it when it has been away for `down` seconds."""

    def __init__(
        self,
        program: str | Path,
        folder: str | Path | None = None,
        *,
        primary: RedisServer,
        name: str = "motet",
        down: float = 0.5,
        line: str = "",
    ) -> None:
        super().__init__(program, folder, line=line)
        self.primary, self.name, self.down = primary, name, down

    @property
    def url(self) -> str:
        return f"redis+sentinel://{HOST}:{self.port}/{self.name}"

    def client(self) -> redis.Redis:
        return redis.Redis(host=HOST, port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def primary_port(self) -> int:
        """Return the port of the server that it takes for the primary."""
        _, port = self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        return int(port)

    def replicas(self) -> int:
        """Count the replicas that it has found."""
        return len(self.command("SENTINEL", "REPLICAS", self.name))

    def _arguments(self) -> tuple[str, ...]:
        file = self.folder / "sentinel.conf"
        if not file.exists():  # it writes what it learns into this file
            lines = (
                f"port {self.port}",
                f"bind {HOST}",
                f'dir "{self.folder}"',
                f"sentinel monitor {self.name} {HOST} {self.primary.port} 1",
                f"sentinel down-after-milliseconds {self.name} {int(self.down * 1000)}",
                f"sentinel failover-timeout {self.name} 3000",
            )
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return (str(file), "--sentinel")


class Watched(Together):
    """A primary and its replica, and the sentinel that exchanges them."""

    def __init__(self, primary: RedisServer, replica: RedisServer, sentinel: Sentinel) -> None:
        super().__init__((primary, replica, sentinel))
        self.primary, self.replica, self.sentinel = primary, replica, sentinel

    @property
    def url(self) -> str:
        """Name the sentinel and the primary's name."""
        return self.sentinel.url

    def _come_up(self) -> None:
        self.primary.start()
        self.replica.start()
        self.replica.replica_of(self.primary)
        self.sentinel.start()
        wait_until(lambda: self.sentinel.replicas() == 1, f"{self.sentinel.url} does not find the replica")


def start_cluster(
    program: str | Path,
    folder: str | Path | None = None,
    *,
    masters: int = 3,
    line: str = "",
    options: Sequence[str] = (),
) -> Cluster:
    """Start a cluster of nodes that have the same share of the slots each; `with` it, or stop it."""
    bounds = [len(SLOTS) * part // masters for part in range(masters + 1)]
    parts = [range(first, end) for first, end in pairwise(bounds)]
    cluster = Cluster([RedisServer(program, folder, cluster=True, slots=p, line=line, options=options) for p in parts])
    cluster.start()
    return cluster


def start_sentinel(
    program: str | Path, folder: str | Path | None = None, *, name: str = "motet", down: float = 0.5, line: str = ""
) -> Watched:
    """Start a primary, a replica and a sentinel that watches them under a name; `with` them, or stop them."""
    primary, replica = (RedisServer(program, folder, line=line) for _ in range(2))
    watched = Watched(primary, replica, Sentinel(program, folder, primary=primary, name=name, down=down, line=line))
    watched.start()
    return watched
