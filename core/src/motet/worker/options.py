"""The settings of a worker."""

from __future__ import annotations

import os
from datetime import timedelta

import attrs

from motet.options import CONTROL, Lane, Priority, Size

__all__ = ["Options"]


@attrs.frozen(kw_only=True)
class Options:
    """How a worker works.

    With `burst` it ends when nothing is left that is ready or held, here or elsewhere. What is parked for later waits
    for the next worker, retries included.
    """

    concurrency: int = 100
    threads: int = 40
    processes: int = attrs.field(factory=lambda: os.cpu_count() or 1)
    queues: tuple[str, ...] = ("default",)
    sizes: tuple[Size, ...] = tuple(Size)
    burst: bool = False
    grace: timedelta = timedelta(seconds=30)
    lease: timedelta = timedelta(seconds=15)
    stall_limit: timedelta = timedelta(seconds=60)
    tracebacks: bool = False
    lease_thread: bool = True

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Where the worker takes from, in order: internal messages first, then by priority."""
        lanes = [
            Lane(queue, size.value, int(priority))
            for priority in Priority
            for queue in self.queues
            for size in self.sizes
        ]
        return (CONTROL, *lanes)
