"""A server process of our own, for tests: a free port, a folder, and a guard that leaves nothing of either behind.

`kill` leaves the folder, and another start goes on from it. When the process that started a server dies in any way,
the guard beside the server kills it and removes its folder.
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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["HOST", "Guarded", "Server", "ServerFailed", "free_port", "wait_until"]

HOST = "127.0.0.1"
PORTS = range(20000, 32000)
BUS = 10000
"""So far above its port is the bus of a Redis cluster's node, in 6.2 always: both are to be within PORTS."""
SHARES = 8
"""Processes with numbers next to each other look at different ports."""
PATIENCE = 20.0
"""Seconds that a server has for coming up, on a machine that does other work."""

RUN = 'echo "$$" >&0 && exec "$@" </dev/null'
"""Tells the guard who it is, and becomes the server."""
GUARD = """
while read -r line; do pid=$line; done
[ "${pid:-0}" = 0 ] || kill -9 "-$pid" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1"; [ -e "$1" ] || break; sleep 0.1; done
"""
"""Reads who leads the server's group, 0 for nobody, until its input ends, which is when we close it or die.

PR_SET_PDEATHSIG would not do: it fires when the thread ends that started the server, and there is none on macOS.
"""


class ServerFailed(RuntimeError):
    """A server did not come up, or is not what it should be."""


class Server:
    """Anything that is started and stopped, as a context manager too."""

    def start(self) -> None:
        """Start it, or wait until it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop it, if it is ours."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Guarded(Server):
    """A process with a port and a folder of its own. `begin` comes before the first `spawn`."""

    def __init__(self, program: str | Path, parent: str | Path | None) -> None:
        self.program = str(program)
        self.parent = parent
        self.port = 0
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """Its process; 0 when there is none."""
        return self._process.pid if self._process else 0

    def begin(self, prefix: str) -> bool:
        """Make the folder and the guard, unless they are there; say whether they were made."""
        if self._process:
            raise ServerFailed(f"{self.program} runs already, at {self.port}")
        if self._guard:
            return False
        self.folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.parent))
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return True

    def spawn(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Run the program, in a group of its own with whatever it starts."""
        assert self._guard is not None
        command = ["/bin/sh", "-c", RUN, "run", *self.invocation(arguments)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=self._guard.stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def invocation(self, arguments: Sequence[str]) -> list[str]:
        """What is run."""
        return [self.program, *arguments]

    def alive(self) -> None:
        """Look whether it is still there.

        Raises:
            ServerFailed: It ended; its log says why.
        """
        if self._process and self._process.poll() is not None:
            raise ServerFailed(f"{self.program} ended with {self._process.returncode}{self.said()}")

    def said(self) -> str:
        """The end of its log, for an error."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "; its log ends so:\n" + "\n".join(lines[-30:])

    def kill(self) -> None:
        """Kill it as a crash would. What it has written stays."""
        if self._process:
            self.signal(signal.SIGKILL)
            self._tell_guard(0)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it, and start it on the same port and with the same folder."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Let it stand still: it holds its connections, and answers nobody."""
        self.signal(signal.SIGSTOP)
        state = Path(f"/proc/{self.pid}/stat")
        if state.exists():  # on a busy machine some of its threads run on for a moment
            wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", f"{self.pid} does not stop")

    def go_on(self) -> None:
        """End a pause."""
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to it and to what it has started."""
        with suppress(ProcessLookupError, PermissionError):  # all of them are gone; macOS refuses to signal the dead
            os.killpg(self.pid, number)

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

    def _tell_guard(self, pid: int) -> None:
        assert self._guard is not None
        assert self._guard.stdin is not None
        os.write(self._guard.stdin.fileno(), f"{pid}\n".encode())


_found: deque[int] = deque(maxlen=100)


def free_port(cluster: bool = False) -> int:
    """Find a port that nobody listens on; of a cluster's node, one whose bus has a free one too."""
    for port in random.sample(PORTS[:-BUS] if cluster else PORTS, 1000):
        # Nobody listens yet on what was found a moment ago, here or in another process of the same tests.
        if port in _found or port % SHARES != os.getpid() % SHARES:
            continue
        if _free(port) and (not cluster or _free(port + BUS)):
            _found.append(port)
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


def wait_until(claim: Callable[[], bool], failure: str, patience: float = PATIENCE) -> None:
    """Wait for a claim to become true.

    Raises:
        ServerFailed: It does not, and this is what to say of it.
    """
    deadline = time.monotonic() + patience
    while not claim():
        if time.monotonic() > deadline:
            raise ServerFailed(failure)
        time.sleep(0.02)
