"""Worker processes on one broker, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import anyio
import attrs
from history import Mark, read

__all__ = ["TURN", "Fleet", "Player", "until"]

HERE = Path(__file__).parent
WORKERS = 4
TURN = 0.01
"""Seconds between two looks."""


async def until(true: Callable[[], bool], limit: float, what: str) -> None:
    """Wait for something.

    Raises:
        TimeoutError: It has not come.
    """
    with anyio.move_on_after(limit) as scope:
        while not true():
            await anyio.sleep(TURN)
    if scope.cancelled_caught:
        raise TimeoutError(f"not within {limit:g} s: {what}")


@attrs.define(eq=False)
class Player:
    """A process, and the failpoint that it was started with, as `name=kill@3`."""

    process: subprocess.Popen[bytes]
    point: str = ""
    woken: float = 0.0
    """When it went on after it had been frozen, on the clock of the marks."""

    @property
    def gone(self) -> bool:
        return self.process.poll() is not None

    @property
    def killed(self) -> bool:
        return self.process.poll() == -signal.SIGKILL

    @property
    def frozen(self) -> bool:
        """Whether SIGSTOP has it."""
        return self._state() == "T"

    def thawed(self) -> bool:
        """Whether it is gone; if it has frozen itself meanwhile, it goes on."""
        if self.frozen:
            self.wake()
        return self.gone

    def wake(self) -> None:
        """Let it go on."""
        self.woken = time.monotonic()
        self.send(signal.SIGCONT)

    def _state(self) -> str:
        try:
            status = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        except FileNotFoundError:
            return ""
        return status.rpartition(") ")[2][:1]

    def send(self, number: signal.Signals) -> None:
        if not self.gone:
            self.process.send_signal(number)


class Fleet:
    """All processes of one campaign. Leaving the context leaves none of them behind."""

    def __init__(self, folder: Path, url: str, path: str, mutant: str = "", *, size: int = WORKERS) -> None:
        self.folder = folder
        self.history = folder / "history"
        self.logs = folder / "logs"
        self.history.mkdir()
        self.logs.mkdir()
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith("MOTET_")} | {
            "FAULTS_URL": url,
            "FAULTS_HISTORY": str(self.history),
            "FAULTS_MUTANT": mutant,
            "PYTHONPATH": os.pathsep.join((path, str(HERE))),
        }
        self.workers: list[Player | None] = [None] * size
        self.all: list[Player] = []
        self._read: dict[Path, int] = {}
        self._log: dict[Path, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for player in self.all:
            player.send(signal.SIGKILL)
            player.process.wait()

    def start(self, *words: str, point: str = "") -> Player:
        """Start a process."""
        environment = {**self.environment, "MOTET_FAILPOINTS": point} if point else self.environment
        with (self.logs / f"{len(self.all)}.log").open("wb") as log:
            command = [sys.executable, str(HERE / "player.py"), *words]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        player = Player(process, point)
        self.all.append(player)
        return player

    def work(self, slot: int, point: str = "") -> Player:
        """Start a worker."""
        player = self.workers[slot] = self.start("work", point=point)
        return player

    async def retire(self, slot: int) -> None:
        """Tell a worker to end, and wait until it has."""
        player, self.workers[slot] = self.workers[slot], None
        if player is not None:
            player.send(signal.SIGTERM)
            await until(player.thawed, 30, f"the end of worker {player.process.pid}, {player.point}")

    def marks(self) -> list[Mark]:
        """Read what was noted since the last time."""
        return [mark for path in sorted(self.history.iterdir()) for mark in read(self._news(path, self._read))]

    def losses(self) -> int:
        """Count leases that workers have noticed to be lost since the last time."""
        news = (line for path in sorted(self.logs.iterdir()) for line in self._news(path, self._log))
        return sum("lease lost" in line for line in news)

    @staticmethod
    def _news(path: Path, seen: dict[Path, int]) -> list[str]:
        with path.open("rb") as file:
            file.seek(seen.get(path, 0))
            whole = file.read().rpartition(b"\n")[0]
        seen[path] = seen.get(path, 0) + (len(whole) + 1 if whole else 0)
        return whole.decode().splitlines()
