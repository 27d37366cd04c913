"""Calls that want a lock before they run: who finds it busy hands its message back, and is charged no attempt (R38)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from actors import acting
from calls import Execution, flaky
from schedule import Report, Schedule

from motet import FixedDelay, Motet, Term, group
from motet.ports import Grant, Lock
from motet.worker.attempts import Slot
from motet.worker.handle import Handler
from motet.worker.loop import Worker
from motet.worker.resolve import Job
from motet.worker.settle import Waiting

__all__ = ["Contending", "contend"]

MUTEX = (Lock("contended", "mutex"),)
LATER = timedelta(seconds=0.2)


class Contending(Handler):
    """Runs a call only under the lock."""

    __slots__ = ()

    async def attempt(self, slot: Slot, job: Job) -> Waiting | None:
        locks, owner = self.worker.backend.locks, job.delivery.receipt
        lease = timedelta(seconds=acting.get().host.lease)
        if not isinstance(await self.patiently(locks.acquire, MUTEX, owner, lease), Grant):
            return await self.busy(job)
        try:
            return await super().attempt(slot, job)
        finally:
            await self.patiently(locks.release, owner)

    async def busy(self, job: Job) -> Waiting | None:
        """Give the message back for a while, as it is."""
        self.worker.leave(job.delivery)
        await self.patiently(self.worker.backend.transport.release, [job.delivery], LATER)
        return None


class Contention(Schedule):
    """A schedule of calls that fail every other time, and all want one lock."""

    def __init__(self, seed: int, mode: str) -> None:
        calls: list[Term[Any, Any]] = [
            flaky.partial(f"n{number}").set(retry_policy=FixedDelay(0.1, max_retries=8)) for number in range(6)
        ]
        super().__init__(seed, mode, plot=group(calls))

    def staffed(self, one: Motet, worker: Worker) -> Worker:
        """Have a worker take the lock before it runs a call, and let go of it afterwards."""
        handler: Any = worker.handler
        handler.__class__ = Contending
        return worker

    def perform(self) -> Report:
        report = super().perform()
        report.violations.extend(charged(self.executions))
        return report


def charged(executions: Sequence[Execution]) -> list[str]:
    """R38: an attempt follows one that ran and failed; waiting for a lock is none."""
    ran = {(each.run, each.place, each.attempt) for each in executions}
    return [
        f"R38: attempt {each.attempt} of {each.run} {each.place} follows none that ran"
        for each in executions
        if each.attempt > 1 and (each.run, each.place, each.attempt - 1) not in ran
    ]


def contend(seed: int, mode: str) -> Report:
    """Perform one."""
    return Contention(seed, mode).perform()
