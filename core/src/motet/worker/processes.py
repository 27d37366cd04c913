"""Processes for functions that must be killable: warm, one call at a time each, and never forked from the worker.

A new one comes from a server that knows Motet and nothing of the app (or is spawned, where there is no such server), so
it has none of the worker's threads and connections. It imports the module of the first task that it is asked to run.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from motet import codec
from motet.context import Spawn
from motet.errors import Fail, Retry
from motet.message import pack
from motet.outcome import Failure, Kind, Outcome, Success
from motet.ports import Clock
from motet.retry import RemoteError
from motet.task import module_name
from motet.worker.attempts import Attempt
from motet.worker.child import Answer, Line, Request, Trouble, read_answer, serve
from motet.worker.resolve import Job, error_info

__all__ = ["ProcessSlots"]

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
REAP = 2.0
"""Seconds to wait for a process that has been killed."""

read_progress: Callable[[bytes], tuple[int, int]] = msgspec.msgpack.Decoder(tuple[int, int]).decode
read_term: Callable[[bytes], Any] = codec.decode


class ProcessSlots:
    """At most `limit` processes, started as they are needed and kept until `close`."""

    def __init__(self, limit: int, *, tracebacks: bool) -> None:
        self.limit = limit
        self.tracebacks = tracebacks
        self.idle: list[Child] = []
        self.children: set[Child] = set()
        self.free: anyio.CapacityLimiter | None = None
        self.threads: anyio.CapacityLimiter | None = None

    async def run(self, attempt: Attempt, clock: Clock) -> tuple[Outcome, list[Spawn]]:
        """Run an attempt in a process. A cancel kills it; a process that dies by itself is a failure of the attempt."""
        if self.free is None or self.threads is None:
            # A thread that was abandoned with its killed process ends soon: until then it needs a place of its own.
            self.free, self.threads = anyio.CapacityLimiter(self.limit), anyio.CapacityLimiter(2 * self.limit)
            atexit.register(self.close)
        request = pack(self.request(attempt.job))

        def begun() -> None:
            attempt.since = clock.monotonic()

        async with self.free:
            child = self.idle.pop() if self.idle else self.add()
            try:
                raw = await anyio.to_thread.run_sync(
                    child.ask, request, begun, attempt.note, abandon_on_cancel=True, limiter=self.threads
                )
            except BaseException:
                child.kill()
                raise
            if raw is None:
                return lost(attempt.job, child.death()), []
            self.idle.append(child)
        return outcome(attempt.job, read_answer(raw))

    def request(self, job: Job) -> Request:
        """All that the process needs to know."""
        assert job.definition is not None
        module, place = job.definition.place
        message = msgspec.structs.replace(job.message, plan=b"", value=None)
        leaf = msgspec.structs.replace(job.leaf, call=msgspec.Raw(bytes(job.call)), stored=False, scope=None)
        depth = job.plan.header(job.place.segment).depth if (job.place.segment, 0) in job.plan.pages else 0
        return Request(module_name(module), place, message, leaf, job.profile, job.value, depth, self.tracebacks)

    def add(self) -> Child:
        """Make a process; it starts with its first call."""
        child = Child()
        self.children = {child, *(each for each in self.children if not each.reaped)}
        return child

    def close(self) -> None:
        """Kill all processes."""
        atexit.unregister(self.close)
        for child in self.children:
            child.kill()
        for child in self.children:
            child.reap()
        self.children.clear()
        self.idle.clear()


class Child:
    """One process. One thread at a time talks with it; any thread may kill it."""

    def __init__(self) -> None:
        context: Any = multiprocessing.get_context(METHOD)
        ends: tuple[Line, Line] = context.Pipe()
        self.connection: Line = ends[0]
        self.end: Line = ends[1]
        self.process: BaseProcess = context.Process(target=serve, args=(self.end,), name="motet-task")
        self.killed: bool = False
        self.reaped: bool = False
        self.reaping: threading.Lock = threading.Lock()

    def ask(self, request: bytes, begun: Callable[[], None], note: Callable[[int, int], None]) -> bytes | None:
        """Send a request, and wait for the answer; None when the process has died."""
        try:
            if self.process.pid is None:
                self.start()
            self.connection.send_bytes(request)
            while True:
                said = self.connection.recv_bytes()
                match said[:1]:
                    case b"b":
                        begun()
                    case b"p":
                        note(*read_progress(said[1:]))
                    case _:
                        return said[1:]
        except (EOFError, OSError):
            self.reap()
            return None

    def start(self) -> None:
        if METHOD == "forkserver":
            multiprocessing.set_forkserver_preload(["motet.worker.child"])
        with _without_main():
            self.process.start()
        self.end.close()
        if self.killed:
            self.process.kill()

    def kill(self) -> None:
        """End it at once; one that is about to start will see that it must not."""
        self.killed = True
        if self.process.pid is not None:
            self.process.kill()

    def reap(self) -> None:
        """Wait for a process that is dead or dying."""
        with self.reaping:
            if not self.reaped and self.process.pid is not None:
                self.process.join(REAP)
            self.reaped = True
            self.connection.close()

    def death(self) -> str:
        """Say how it ended."""
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"its process ended with exit code {code}"
        try:
            return f"its process was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"its process was killed by signal {-code}"


_starting = threading.Lock()


@contextmanager
def _without_main() -> Generator[None]:
    """Keep a new process from running the main script a second time: it imports the task's module by its own name."""
    with _starting:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def outcome(job: Job, answer: Answer) -> tuple[Outcome, list[Spawn]]:
    """Turn what a process answered into the outcome of its job."""
    if answer.trouble is not None:
        return failed(job, answer.trouble), []
    spawns = [Spawn(read_term(term), key, attach=False) for key, term in answer.spawns]
    if answer.replaced is not None:
        return answer.replaced, spawns
    assert answer.value is not None
    return Success(answer.value), spawns


def failed(job: Job, trouble: Trouble) -> Failure:
    info = error_info(job, trouble.kind, trouble.type, trouble.message, trouble.traceback)
    match trouble.asks:
        case "fail":
            return Failure(info, Fail(trouble.message))
        case "retry":
            return Failure(info, Retry(trouble.message, delay=trouble.delay))
        case _:
            return Failure(info, RemoteError(trouble.message, trouble.qualnames))


def lost(job: Job, how: str) -> Failure:
    """A process that died by itself fails this attempt; the task's policy says whether there is another."""
    return Failure(error_info(job, Kind.WORKER_LOST, "WorkerLost", how), RemoteError(how, ("WorkerLost", "Exception")))
