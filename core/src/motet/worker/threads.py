"""Threads for plain functions: they take jobs from one queue, and wake the loop once for a burst of results."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from motet.worker.wakeup import Waker, loop_waker

__all__ = ["ThreadSlots"]

log: logging.Logger = logging.getLogger("motet.worker")

Work = Callable[[], Any]
Done = Callable[[Any], None]


class ThreadSlots:
    """At most `limit` threads, started as they are needed. `done` is called in the loop, in bursts."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.jobs: queue.SimpleQueue[tuple[Context, Work, Done] | None] = queue.SimpleQueue()
        self.results: deque[tuple[Done, Any]] = deque()
        self.wake: Waker = loop_waker()
        self.woken: bool = False
        self.threads: int = 0
        self.waiting: int = 0

    def start(self, work: Work, done: Done) -> None:
        """Run `work` in a thread, in a copy of this context; it must not raise."""
        self.waiting += 1
        if self.waiting > self.threads and self.threads < self.limit:
            self.threads += 1
            threading.Thread(target=self._serve, name=f"motet-task-{self.threads}", daemon=True).start()
        self.jobs.put((copy_context(), work, done))

    def close(self) -> None:
        """Let idle threads end. One that is busy ends after its function; nobody can kill it."""
        for _ in range(self.threads):
            self.jobs.put(None)

    def _serve(self) -> None:
        while (job := self.jobs.get()) is not None:
            context, work, done = job
            self.results.append((done, context.run(work)))
            # Set before the call: a result that arrives in between is drained by the same wake-up.
            if not self.woken:
                self.woken = True
                try:
                    self.wake(self._drain)
                except RuntimeError:
                    return  # the loop has ended: the lease will run out, and the message comes back

    def _drain(self) -> None:
        # Cleared before the first look: a result that arrives after the last one wakes the loop again.
        self.woken = False
        while self.results:
            done, result = self.results.popleft()
            self.waiting -= 1
            try:
                done(result)
            except Exception:
                log.exception("the end of a thread's work was not handled; its message comes back after its lease")
