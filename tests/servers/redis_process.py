"""One Redis or Valkey server for tests: started in a moment, killed at will, and gone in the end.

A server has a free port of the loopback interface and a folder of its own. `kill` leaves the folder, and `start` or
`restart` go on from it. When the process that started a server dies in whatever way, a guard beside the server kills it
and removes its folder.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["HOST", "SLOTS", "RedisServer", "RunningServer", "ServerFailed", "free_port", "text", "wait_until"]

HOST = "127.0.0.1"
PORTS = range(20000, 32000)
BUS = 10000
"""So far above its port is the bus of a cluster's node, in 6.2 always: both are to be within PORTS."""
SLOTS = range(16384)
PATIENCE = 20.0
"""Seconds that a server has for coming up, on a machine that does other work."""
IN_USE = "Address already in use"

RUN = 'echo "$$" >&0 && exec "$@" </dev/null'
"""Tells the guard who it is, and becomes the server."""
GUARD = """
while read -r line; do pid=$line; done
[ "${pid:-0}" = 0 ] || kill -9 "$pid" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1"; [ -e "$1" ] || break; sleep 0.1; done
"""
"""Reads who the server is, 0 for nobody, until its input ends, which is when we close it or die.

PR_SET_PDEATHSIG would not do: it fires when the thread ends that started the server, and there is none on macOS.
"""


class ServerFailed(RuntimeError):
    """A server did not come up, or is not what it should be."""


class RunningServer:
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
                raise ServerFailed(f"{self.url} does not answer{self._said()}")
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

    def _said(self) -> str:
        return ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class RedisServer(RunningServer):
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
        super().__init__("", line=line)
        self.program = str(program)
        self.parent = folder
        self.cluster = cluster
        self.slots = slots
        self.port = 0
        self.folder = Path()
        durable = ("--appendonly", "yes", "--appendfsync", appendfsync) if aof else ("--appendonly", "no")
        # A failover after 15 seconds, as by default, would be long for a test.
        clustered = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000") if cluster else ()
        # A replica is served at once, not after the 5 seconds in which others may come.
        self.options = (*durable, *clustered, "--repl-diskless-sync-delay", "0", *options)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis+cluster://{HOST}:{self.port}" if self.cluster else f"redis://{HOST}:{self.port}/0"

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """Its process; 0 when there is none."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it on a free port, or on the port and the folder that it had, and wait until it can be used.

        Raises:
            ServerFailed: It ended, does not answer, or is of another line than expected.
        """
        if self._process:
            raise ServerFailed(f"{self.url} runs already")
        fresh = self.port == 0
        if fresh:
            self.folder = Path(tempfile.mkdtemp(prefix="redis-", dir=self.parent))
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self._come_up(fresh)
        except BaseException:
            self.stop()
            raise

    def kill(self) -> None:
        """Kill it as a crash would. What it has written stays."""
        if self._process:
            self._process.kill()
            self._tell_guard(0)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it, and start it on the same port and with the same folder."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Let it stand still: it holds its connections, and answers nobody."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Kill it, and remove its folder; another `start` begins anew."""
        self.kill()
        self.port = 0
        if self._guard:
            shutil.rmtree(self.folder, ignore_errors=True)
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None

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
            self._run()
            try:
                super().start()
                break
            except ServerFailed:  # somebody may have taken the port between our look and its own
                if not fresh or IN_USE not in self._said():
                    raise
                self.kill()
                self.log.unlink()
        if self.cluster:
            self._serve_slots(fresh)

    def _run(self) -> None:
        assert self._guard is not None
        command = ["/bin/sh", "-c", RUN, "run", self.program, *self._arguments()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=self._guard.stdin, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

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
        if self._process and self._process.poll() is not None:
            raise ServerFailed(f"{self.program} ended with {self._process.returncode}{self._said()}")
        return super()._answers()

    def _mine(self, about: dict[str, Any]) -> bool:
        return bool(about["process_id"] == self.pid)

    def _said(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "; its log ends so:\n" + "\n".join(lines[-30:])

    def _tell_guard(self, pid: int) -> None:
        assert self._guard is not None
        assert self._guard.stdin is not None
        os.write(self._guard.stdin.fileno(), f"{pid}\n".encode())


def free_port(cluster: bool = False) -> int:
    """Find a port that nobody listens on; of a cluster's node, one whose bus has a free one too."""
    for port in random.sample(PORTS[:-BUS] if cluster else PORTS, 200):
        if _free(port) and (not cluster or _free(port + BUS)):
            return port
    raise ServerFailed(f"no free port from {PORTS.start} to {PORTS.stop - 1}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until(claim: Callable[[], bool], failure: str) -> None:
    """Wait for a claim to become true.

    Raises:
        ServerFailed: It does not, and this is what to say of it.
    """
    deadline = time.monotonic() + PATIENCE
    while not claim():
        if time.monotonic() > deadline:
            raise ServerFailed(failure)
        time.sleep(0.02)


def text(reply: Any) -> str:
    """Read what a server replied."""
    return reply.decode() if isinstance(reply, bytes) else str(reply)
