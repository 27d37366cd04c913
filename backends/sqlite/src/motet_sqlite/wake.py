"""Waking other processes: each binds datagram sockets in a directory beside the database (M6). All of it is lossy.

`w-*` are receivers: a commit that makes work ready sends a byte to as many of them as there are new messages.
`r-*` wait for results: a commit that decides something sends them the ids of the runs.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import socket
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["Bell", "directory_for"]

LONGEST = 100
"""macOS takes 103 bytes, Linux 107; some room is left."""
BLINK = 0.05
"""A directory changed within so many seconds is listed again: its time has a resolution of up to 10 ms."""
RUNS_PER_DATAGRAM = 500
MOST_HOPS = 32
SUPPORTED = hasattr(socket, "AF_UNIX")


def directory_for(path: Path) -> Path:
    """Return where the sockets of a database are: beside it, or in /tmp when that would be too long a name."""
    beside = path.with_name(path.name + ".wake")
    if len(os.fsencode(beside)) + len("/w-4194304-000000") <= LONGEST:
        return beside
    return Path("/tmp") / f"motet-{os.getuid()}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}.wake"  # noqa: S108


class Bell:
    """One process's part in waking and being woken; used by one thread."""

    def __init__(self, path: Path) -> None:
        self.directory = directory_for(path) if SUPPORTED else path
        self.ears: dict[str, tuple[socket.socket, str]] = {}
        self._mouth: socket.socket | None = None
        self._listed: tuple[int, list[str]] = (0, [])

    # Being woken.

    def listen(self, kind: str) -> socket.socket | None:
        """Bind a socket for "w" or "r", once; None where there are none, so that polling has to do."""
        if kind in self.ears:
            return self.ears[kind][0]
        if not SUPPORTED:
            return None
        with suppress(OSError):
            self._make_directory()
            name = f"{kind}-{os.getpid()}-{secrets.token_hex(3)}"
            ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                ear.bind(str(self.directory / name))
            except OSError:
                ear.close()
                raise
            ear.setblocking(False)
            self.ears[kind] = (ear, name)
            return ear
        return None

    def _make_directory(self) -> None:
        self.directory.mkdir(mode=0o700 if self.directory.parent == Path("/tmp") else 0o777, exist_ok=True)  # noqa: S108
        found = self.directory.lstat()
        if self.directory.parent == Path("/tmp") and (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid()):  # noqa: S108
            raise PermissionError(self.directory)

    def deaf(self, kind: str) -> bool:
        """Say whether our socket was removed from its directory, so that nobody finds it."""
        return kind in self.ears and not (self.directory / self.ears[kind][1]).exists()

    def leave(self, kind: str) -> None:
        """Close a socket of ours and remove its name."""
        ear, name = self.ears.pop(kind)
        ear.close()
        with suppress(OSError):
            (self.directory / name).unlink()

    def hear(self, kind: str) -> list[bytes]:
        """Return the datagrams that have come."""
        heard: list[bytes] = []
        if kind in self.ears:
            with suppress(OSError):
                while True:
                    heard.append(self.ears[kind][0].recv(65536))
        return heard

    # Waking.

    def ring(self, count: int, hops: int = 0) -> None:
        """Wake receivers, as many as there are new messages; one that has no use for it passes it on, `hops` times."""
        others = self._others("w-")
        if not others:
            return
        hops = min(hops or len(others), MOST_HOPS)
        for name in random.sample(others, min(count, len(others))):
            self._send(name, bytes((hops,)))

    def announce(self, runs: Iterable[str]) -> None:
        """Tell every other process that waits for results what was decided."""
        others = self._others("r-")
        if not others:
            return
        names = list(runs)
        for start in range(0, len(names), RUNS_PER_DATAGRAM):
            text = "\n".join(names[start : start + RUNS_PER_DATAGRAM]).encode()
            for other in others:
                self._send(other, text)

    def _others(self, kind: str) -> list[str]:
        """List other processes' sockets; 4 to 6 us as long as the directory has not changed."""
        if not SUPPORTED:
            return []
        try:
            changed = self.directory.stat().st_mtime_ns
            if changed != self._listed[0]:
                names = [entry.name for entry in self.directory.iterdir()]
                settled = time.time_ns() - changed > BLINK * 1e9
                self._listed = (changed if settled else 0, names)
        except OSError:
            return []
        ours = {name for _, name in self.ears.values()}
        return [name for name in self._listed[1] if name.startswith(kind) and name not in ours]

    def _send(self, name: str, data: bytes) -> None:
        if self._mouth is None:
            self._mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._mouth.setblocking(False)
        target = self.directory / name
        try:
            self._mouth.sendto(data, str(target))
        except ConnectionRefusedError:
            # Its process was killed.
            with suppress(OSError):
                target.unlink()
        except FileNotFoundError:
            self._listed = (0, [])
        except OSError:
            # Its queue is full: it has enough to wake it.
            pass

    def close(self) -> None:
        """Leave nothing behind."""
        for kind in list(self.ears):
            self.leave(kind)
        if self._mouth is not None:
            self._mouth.close()
        with suppress(OSError):
            # The last one takes the directory away; it is made again when needed.
            if SUPPORTED:
                self.directory.rmdir()
