"""One Redis or Valkey server for tests: started in a moment, killed at will, and gone in the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from guarded import HOST, PATIENCE, Guarded, Server, ServerFailed, free_port, wait_until
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["HOST", "SLOTS", "RedisServer", "RunningServer", "ServerFailed", "text", "wait_until"]

SLOTS = range(16384)
IN_USE = "Address already in use"


class RunningServer(Server):
    """A server that somebody else has started: it can be used, and neither killed nor restarted."""

    def __init__(self, url: str, *, line: str = "") -> None:
        self.line = line
        self._url = url
        self._version = ""

    @property
    def url(self) -> str:
        """Where it is, as the adapter wants to be told."""
        return self._url

    @property
    def version(self) -> str:
        """Its name and version as it reports them, such as "valkey 9.1.2"."""
        return self._version

    def start(self) -> None:
        """Wait until it answers.

        Raises:
            ServerFailed: It does not, or is of another line than expected.
        """
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.url} does not answer{self.said()}")
            time.sleep(0.01)
        if self.line and self.version != self.line and not self.version.startswith(f"{self.line}."):
            raise ServerFailed(f"the server at {self.url} says that it is {self.version}, and should be {self.line}")

    def stop(self) -> None:
        """Leave it running: it is not ours."""

    def client(self) -> redis.Redis:
        """Make a client that fails at once, and does nothing twice; close it."""
        return redis.Redis.from_url(self.url.replace("+cluster", ""), socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def command(self, *words: str | int) -> Any:
        """Run one command on a connection of its own."""
        with self.client() as client:
            return client.execute_command(*words)

    def clear(self) -> None:
        """Forget all data."""
        self.command("FLUSHALL")

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        with self.client() as client:
            return dict(client.info(section))

    def _answers(self) -> bool:
        """Whether it answers, and has loaded its data; notes its version."""
        try:
            self.command("PING")
            about = self.info("server")
        except (redis.ConnectionError, redis.TimeoutError):  # also while it loads
            return False
        name = about.get("server_name", "redis")
        self._version = f"{name} {about[f'{name}_version']}"
        return self._mine(about)

    def _mine(self, about: dict[str, Any]) -> bool:
        return True

    def said(self) -> str:
        """What it has written, as far as that is known."""
        return ""


class RedisServer(Guarded, RunningServer):
    """A server of our own.

    Its folder is made within `folder`. `line` is what it should say that it is, such as "redis 6.2". With `cluster` it
    is a node that has `slots`: all of them make a cluster of one, with fewer it does not wait for the rest.
    """

    def __init__(
        self,
        program: str | Path,
        folder: str | Path | None = None,
        *,
        cluster: bool = False,
        aof: bool = True,
        appendfsync: str = "everysec",
        options: Sequence[str] = (),
        line: str = "",
        slots: Sequence[int] = SLOTS,
    ) -> None:
        Guarded.__init__(self, program, folder)
        RunningServer.__init__(self, "", line=line)
        self.cluster = cluster
        self.slots = slots
        durable = ("--appendonly", "yes", "--appendfsync", appendfsync) if aof else ("--appendonly", "no")
        # A failover after 15 seconds, as by default, would be long for a test.
        clustered = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000") if cluster else ()
        # A replica is served at once, not after the 5 seconds in which others may come.
        self.options = (*durable, *clustered, "--repl-diskless-sync-delay", "0", *options)

    @property
    def url(self) -> str:
        return f"redis+cluster://{HOST}:{self.port}" if self.cluster else f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it on a free port, or on the port and the folder that it had, and wait until it can be used.

        Raises:
            ServerFailed: It ended, does not answer, or is of another line than expected.
        """
        fresh = self.begin("redis-")
        try:
            self._come_up(fresh)
        except BaseException:
            self.stop()
            raise

    def replica_of(self, other: RedisServer) -> None:
        """Become a replica of another server, or of another node of a cluster, and wait until all is copied."""
        if self.cluster:
            self.command("CLUSTER", "MEET", HOST, other.port)
            name = text(other.command("CLUSTER", "MYID"))
            wait_until(lambda: name in text(self.command("CLUSTER", "NODES")), f"{self.url} does not know {other.url}")
            self.command("CLUSTER", "REPLICATE", name)
        else:
            self.command("REPLICAOF", HOST, other.port)
        failure = f"{self.url} does not become a replica of {other.url}"
        wait_until(lambda: self.info("replication").get("master_link_status") == "up", failure)
        if self.cluster:  # a node that does not know of it would not vote for it
            wait_until(self._known_to_all, failure)

    def _known_to_all(self) -> bool:
        name = text(self.command("CLUSTER", "MYID"))
        for line in text(self.command("CLUSTER", "NODES")).splitlines():
            port = line.split()[1].partition("@")[0].rpartition(":")[2]
            with redis.Redis(host=HOST, port=int(port)) as node:
                lines = text(node.execute_command("CLUSTER", "NODES")).splitlines()
            if not any(line.startswith(name) and "slave" in line.split()[2] for line in lines):
                return False
        return True

    def _come_up(self, fresh: bool) -> None:
        for _ in range(10 if fresh else 1):
            self.port = free_port(self.cluster) if fresh else self.port
            self.spawn(self._arguments())
            try:
                RunningServer.start(self)
                break
            except ServerFailed:  # somebody may have taken the port between our look and its own
                if not fresh or IN_USE not in self.said():
                    raise
                self.kill()
                self.log.unlink()
        if self.cluster:
            self._serve_slots(fresh)

    def _arguments(self) -> tuple[str, ...]:
        place = ("--port", str(self.port), "--bind", HOST, "--dir", str(self.folder))
        return (*place, "--save", "", "--daemonize", "no", *self.options)

    def _serve_slots(self, fresh: bool) -> None:
        if fresh and self.slots:
            self.command("CLUSTER", "ADDSLOTS", *self.slots)
        if len(self.slots) == len(SLOTS):  # else it waits for others
            wait_until(self.healthy, f"{self.url} does not become a cluster")

    def healthy(self) -> bool:
        """Whether the cluster that it belongs to serves all slots, as far as it knows."""
        return "cluster_state:ok" in text(self.command("CLUSTER", "INFO"))

    def _answers(self) -> bool:
        self.alive()
        return super()._answers()

    def _mine(self, about: dict[str, Any]) -> bool:
        return bool(about["process_id"] == self.pid)


def text(reply: Any) -> str:
    """Read what a server replied."""
    return reply.decode() if isinstance(reply, bytes) else str(reply)
