"""Processes for functions that must be killable."""

from __future__ import annotations

from typing import Any

from motet.errors import NotSupported
from motet.outcome import Outcome
from motet.worker.execute import Executor
from motet.worker.resolve import Job

__all__ = ["ProcessSlots"]


class ProcessSlots:
    """A pool of warm processes, each running one call at a time."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def run(self, job: Job, executor: Executor) -> Outcome:
        """Run a job in a process; a cancel kills it."""
        raise NotSupported("process", "this")

    def close(self) -> None:
        """End the processes."""
