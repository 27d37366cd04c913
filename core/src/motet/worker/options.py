"""The settings of a worker."""

from __future__ import annotations

import os
from datetime import timedelta

import attrs

from motet.options import CONTROL, Lane, Priority, Size, seconds

__all__ = ["Options"]


def duration(value: float | timedelta) -> timedelta:
    """Read a public duration."""
    return timedelta(seconds=seconds(value))


@attrs.frozen(kw_only=True)
class Options:
    """How a worker works. Durations are seconds or `timedelta`.

    With `burst` it ends when nothing is left that is ready or held, here or elsewhere. What is parked for later waits
    for the next worker, retries included.
    """

    concurrency: int = 100
    threads: int = 40
    processes: int = attrs.field(factory=lambda: os.cpu_count() or 1)
    queues: tuple[str, ...] = ("default",)
    sizes: tuple[Size, ...] = tuple(Size)
    burst: bool = False
    grace: timedelta = attrs.field(default=timedelta(seconds=30), converter=duration)
    lease: timedelta = attrs.field(default=timedelta(seconds=15), converter=duration)
    stall_limit: timedelta = attrs.field(default=timedelta(seconds=60), converter=duration)
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
