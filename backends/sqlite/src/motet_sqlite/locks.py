"""Port L on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from motet.errors import UsageError
from motet.ports import Busy, Grant, Holding, Lock, Locks
from motet_sqlite import holders
from motet_sqlite.ledger import Ledger
from motet_sqlite.request import Kind, Step
from motet_sqlite.values import count, refuse, text

if TYPE_CHECKING:
    from motet_sqlite.desk import Desk

__all__ = ["SqliteLocks"]

KINDS = frozenset(("mutex", "read", "write", "semaphore", "rate"))


class SqliteLocks:
    """Holds locks in rows with a lease."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def acquire(self, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        def acquire(ledger: Ledger) -> Grant | Busy:
            text(owner)
            for lock in locks:
                _check(lock)
            return holders.acquire(ledger.database, locks, owner, lease, ledger.now)

        # Durable: a resource that has seen a fence refuses smaller ones, after a power cut too.
        answer: Grant | Busy = await self._desk.do(Step(acquire, kind=Kind.DEED))
        return answer

    async def renew(self, owner: str, lease: timedelta) -> bool:
        kept: bool = await self._desk.do(
            Step(lambda ledger: holders.renew(ledger.database, owner, lease), kind=Kind.DEED, durable=False)
        )
        return kept

    async def release(self, owner: str) -> None:
        # After the acquires that were asked before it, so that a caller who gives up leaves nothing behind.
        await self._desk.do(
            Step(lambda ledger: holders.release(ledger.database, [owner]), kind=Kind.DEED, durable=False)
        )

    async def held(self, prefix: str) -> list[Holding]:
        found: list[Holding] = await self._desk.look(lambda database: holders.held(database, prefix))
        return found

    async def free(self, name: str) -> bool:
        freed: bool = await self._desk.do(
            Step(lambda ledger: holders.free(ledger.database, name), kind=Kind.DEED, durable=False)
        )
        return freed


def _check(lock: Lock) -> None:
    """Refuse what could never be granted, or always.

    Raises:
        UsageError: The kind, the limit or the window is none.
    """
    text(lock.name)
    count(lock.limit, 1)
    if lock.kind not in KINDS:
        refuse("kind of lock", lock.kind)
    if lock.kind == "rate" and lock.window.total_seconds() <= 0:
        raise UsageError(f"the rate {lock.name} needs a window")


_: type[Locks] = SqliteLocks
