"""Workers and clients as processes, and what /proc says of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import environment, pss_mib
from peers.brokers import BenchServer
from peers.environments import python_of
from peers.table import Peer

TICK = os.sysconf("SC_CLK_TCK")
REST = 0.3  # seconds after the last task in which a worker may finish with it
PATIENCE = 30.0


class NotMeasured(Exception):
    """Raised when a peer does not do what is measured, or failed at it."""


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of the children that it has waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, text.rpartition(")")[2].split()[11:15])) / TICK


def family_of(pid: int) -> list[int]:
    """A process and all that descend from it."""
    family = [pid]
    for member in family:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{member}/task").iterdir():
                family += map(int, (thread / "children").read_text().split())
    return family


@dataclass(frozen=True)
class Bench:
    """One peer on one server: how its processes are run."""

    peer: Peer
    server: BenchServer
    url: str
    section: str
    results: bool

    def environment(self, **more: str) -> dict[str, str]:
        settings = {
            "BENCH_URL": self.url,
            "BENCH_SECTION": self.section,
            "BENCH_RESULTS": "1" if self.results else "0",
            "PYTHONDONTWRITEBYTECODE": "",
        }
        return {**environment(), **settings, **self.peer.variables, **more}

    def client(self, *arguments: object) -> dict[str, Any]:
        """Run one command of the peer's program, and return what it printed and the CPU seconds of the server."""
        command = (python_of(self.peer), "-m", "peers.call", self.peer.program, *map(str, arguments))
        before = cpu_of(self.server.pid)
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=self.environment(), timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"{arguments[0]} took longer than {PATIENCE:.0f} s") from None
        if done.returncode or not done.stdout:
            raise NotMeasured(f"{arguments[0]} failed: {last_line(done.stderr)}")
        took = json.loads(done.stdout.splitlines()[-1])
        if "missing" in took:
            raise NotMeasured("has none")
        return {"wall": took["wall"], "client": took["cpu"], "p50": took.get("p50"), **self.served(before)}

    def served(self, before: float) -> dict[str, float]:
        return {"server": cpu_of(self.server.pid) - before}

    @contextlib.contextmanager
    def worker(self, count: int, *, wide: bool = False) -> Iterator[Worker]:
        """A worker process that marks the first and the last of so many tasks."""
        slots = str(self.peer.wide if wide else self.peer.slots)
        template = (wide and self.peer.wide_worker) or self.peer.worker
        command = [python_of(self.peer), *(part.format(slots=slots, url=self.url) for part in template)]
        with tempfile.TemporaryDirectory(prefix="motet-bench-") as folder:
            env = self.environment(BENCH_MARKS=folder, BENCH_COUNT=str(count), BENCH_SLOTS=slots)
            log = Path(folder, "log")
            with log.open("w") as output:
                start = time.monotonic()
                process = subprocess.Popen(
                    command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
                )
            try:
                yield Worker(process, Path(folder), start)
            finally:
                end(process)


@dataclass(frozen=True)
class Worker:
    """A running worker."""

    process: subprocess.Popen[bytes]
    folder: Path
    start: float  # when it was started, by the machine's clock

    def cpu(self) -> float:
        return sum(map(cpu_of, family_of(self.process.pid)))

    def memory(self) -> list[float]:
        """MiB of each of its processes."""
        return [pss_mib(pid) for pid in family_of(self.process.pid)]

    def mark(self, name: str) -> float:
        """Wait until a task has left this mark, and return its time."""
        patience = time.monotonic() + PATIENCE
        file = self.folder / name
        while not file.exists():
            if self.process.poll() is not None:
                raise NotMeasured(f"its worker ended: {last_line((self.folder / 'log').read_text())}")
            if time.monotonic() > patience:
                raise NotMeasured(f"no {name} task within {PATIENCE:.0f} s: {self.log()}")
            time.sleep(0.003)
        return float(file.read_text())

    def log(self) -> str:
        return last_line((self.folder / "log").read_text())


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a worker and what it started."""
    family = family_of(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(2)
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
