"""The job of `motet demo`: real worker processes, one of them killed, and the evidence of what happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import attrs

from motet.cli.supervisor import die_with_parent
from motet.errors import UsageError

__all__ = ["Evidence", "Job", "files_in", "plain_count", "run_job", "standard_library", "workers"]

MOST = 600
"""Files counted, at most."""
LARGEST = 1024 * 1024
SLOTS = 4
"""Calls at once in each worker."""
BRISK = 300
"""From so many files on the job lasts long enough to be watched; fewer are counted slowly."""
LOOK = 0.03
PATIENCE = 10.0
TOP = 10
APP = "motet.cli.demo_app:app"
LEFT_OUT = frozenset({"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__", "node_modules"})


def standard_library() -> list[Path]:
    """The source files of this python's standard library."""
    return files_in(Path(sysconfig.get_path("stdlib")), suffix=".py")


def files_in(folder: Path, suffix: str = "") -> list[Path]:
    """Text files below a folder, in order, at most 600 of them.

    Raises:
        UsageError: There are none.
    """
    found: list[Path] = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and name[0] != ".")
        for name in sorted(names):
            path = Path(where, name)
            if name.endswith(suffix) and name[0] != "." and is_text(path):
                found.append(path)
            if len(found) == MOST:
                return found
    if not found:
        raise UsageError(f"no text files in {folder}: name another folder, motet demo FOLDER")
    return found


def is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.is_file() and path.stat().st_size <= LARGEST and b"\0" not in file.read(1024)
    except OSError:
        return False


def plain_count(paths: Sequence[Path]) -> list[tuple[str, int]]:
    """The same, in this process and without Motet."""
    from motet.cli.demo_app import words_in

    total: Counter[str] = Counter()
    for path in paths:
        total.update(words_in(path))
    return sorted(total.items(), key=lambda item: (-item[1], item[0]))[:TOP]


@attrs.define
class Evidence:
    """What the history of executions and the workers' log prove."""

    executions: dict[int, int] = attrs.field(factory=dict[int, int])
    """How many, by process."""
    nodes: set[str] = attrs.field(factory=set[str])
    redelivered: set[str] = attrs.field(factory=set[str])
    last: int = 0
    killed: int = 0
    killed_at: int = 0

    @property
    def total(self) -> int:
        """All executions."""
        return sum(self.executions.values())


@attrs.define
class Job:
    """One performance: where things are, and what is known of it so far."""

    folder: Path
    paths: Sequence[Path]
    workers: int
    kill: bool
    evidence: Evidence = attrs.field(factory=Evidence)
    done: int = 0
    seconds: float = 0.0
    read: int = 0

    @property
    def history(self) -> Path:
        """Where executions are noted."""
        return self.folder / "history.jsonl"

    @property
    def log(self) -> Path:
        """Where the workers log."""
        return self.folder / "workers.jsonl"

    @property
    def calls(self) -> int:
        """Counts of files, the merge and the choice."""
        return len(self.paths) + 2

    @property
    def pause(self) -> float:
        """Seconds that each count sleeps, so that a small job can be watched too."""
        rounds = -(-len(self.paths) // (self.workers * SLOTS))
        return 0.0 if len(self.paths) >= BRISK else min(0.5, 1.5 / rounds)

    def look(self) -> None:
        """Read what is new in the history."""
        with suppress(FileNotFoundError), self.history.open("rb") as file:
            file.seek(self.read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.read += len(line)
                entry = json.loads(line)
                pid = self.evidence.last = entry["pid"]
                self.evidence.executions[pid] = self.evidence.executions.get(pid, 0) + 1
                self.evidence.nodes.add(entry["node"])

    def strike(self) -> None:
        """Halfway, kill the worker that was heard of last."""
        seen = self.evidence
        if self.kill and not seen.killed and len(seen.nodes) >= len(self.paths) / 2 and seen.last:
            with suppress(ProcessLookupError):
                os.kill(seen.last, signal.SIGKILL)
                seen.killed, seen.killed_at = seen.last, len(seen.nodes)

    def events(self, event: str) -> list[dict[str, Any]]:
        """What the workers have logged under this name."""
        found: list[dict[str, Any]] = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                found += [entry] if entry.get("event") == event else []
        return found

    def conclude(self) -> None:
        """Read what happened to the end, messages that came back included."""
        self.look()
        self.evidence.redelivered = {entry["id"] for entry in self.events("redelivered")}


@contextmanager
def workers(job: Job, database: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run `motet worker` for as long as the context is open, as anybody would."""
    from motet.cli.demo_app import HISTORY

    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOTET_")}
    environment |= {"MOTET_URL": f"sqlite:///{database}", HISTORY: str(job.history)}
    command = [sys.executable, "-P", "-m", "motet", "worker", APP, "-w", str(job.workers), "-c", str(SLOTS)]
    with job.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [*command, "--grace", "2", "--log-format", "json"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C is ours to pass on
            preexec_fn=die_with_parent,  # noqa: PLW1509 - there are no threads yet
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


async def run_job(app: Any, job: Job, process: subprocess.Popen[bytes], show: Callable[[Job], None]) -> Any:
    """Submit `group(count) | merge | top`, follow it, kill a worker on the way, and return the result.

    Raises:
        UsageError: The workers do not run; their last words are in the message.
    """
    from motet import group
    from motet.cli.demo_app import count, merge, top

    async with app:
        await started(job, process)
        start = time.perf_counter()
        term = group(count.s(str(path), job.pause) for path in job.paths) | merge.s() | top.s(limit=TOP)
        run = await term.submit()
        while True:
            job.look()
            job.strike()
            status = await run.status()
            job.done = job.calls if status.successful else min((await run.progress()).done, job.calls)
            job.seconds = time.perf_counter() - start
            show(job)
            if status.ready:
                return await run.result(timeout=5)
            await pause(job, process)


async def started(job: Job, process: subprocess.Popen[bytes]) -> None:
    """Wait until all workers are there, so that all take part; late ones are not waited for."""
    with anyio.move_on_after(PATIENCE):
        while len(job.events("started")) < job.workers:
            await pause(job, process)


async def pause(job: Job, process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
        raise UsageError(f"the workers ended: {lines[-1] if lines else 'they said nothing'}")
    await anyio.sleep(LOOK)
