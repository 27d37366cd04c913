"""Processes for functions that must be killable."""

from __future__ import annotations

from typing import Any

from motet.context import Spawn
from motet.errors import NotSupported
from motet.outcome import Outcome
from motet.ports import Clock
from motet.worker.attempts import Attempt

__all__ = ["ProcessSlots"]


class ProcessSlots:
    """A pool of warm processes, each running one call at a time."""

    def __init__(self, limit: int, *, tracebacks: bool, app: Any) -> None:
        self.app = app

    async def run(self, attempt: Attempt, clock: Clock) -> tuple[Outcome, list[Spawn]]:
        """Run a job in a process; a cancel kills it."""
        raise NotSupported("process", "this")

    def close(self) -> None:
        """End the processes."""
