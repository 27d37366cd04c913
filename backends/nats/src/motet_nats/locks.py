"""Port L on JetStream: all locks of a namespace are in one record, which is written over what was read.

So locks are taken all or none, and fences grow, whatever dies when. What callers of one process ask for meanwhile is
done in one write.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import anyio
import msgspec

from motet.engine.wellformed import check_each, check_text
from motet.errors import MotetError
from motet.memory.holders import Hold, Holders, Owner
from motet.ports import Busy, Clock, Grant, Holding, Lock, Locks
from motet_nats.errors import Mismatch
from motet_nats.records import Records
from motet_nats.wire import pack

__all__ = ["NatsLocks"]


class State(msgspec.Struct, frozen=True, array_like=True):
    """Who holds what. Times are seconds since 1970."""

    fence: int
    locks: dict[str, dict[str, tuple[str, int, float]]]
    owners: dict[str, tuple[int, float, tuple[str, ...], tuple[str, ...]]]
    uses: dict[str, tuple[tuple[float, float], ...]]


_state = msgspec.msgpack.Decoder(State)
NOTHING = State(1, {}, {}, {})


class Wall:
    """A clock whose seconds mean the same in every process."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def now(self) -> datetime:
        return self.clock.now()

    def monotonic(self) -> float:
        return self.clock.now().timestamp()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        await self.clock.wait(event, seconds)


class NatsLocks:
    """One client's locks."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._subject = f"{records.client.names.kept}.l"
        self._wall = Wall(records.client.settings.clock)
        self._asked: deque[tuple[Callable[[Holders], Any], asyncio.Future[Any]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def acquire(self, locks: Sequence[Lock], owner: str, lease: timedelta) -> Grant | Busy:
        check_each(locks, Lock)
        check_text(owner)
        answer: Grant | Busy = await self._do(lambda holders: holders.acquire(locks, owner, lease))
        return answer

    async def renew(self, owner: str, lease: timedelta) -> bool:
        check_text(owner)
        return bool(await self._do(lambda holders: holders.renew(owner, lease)))

    async def release(self, owner: str) -> None:
        check_text(owner)
        await self._do(lambda holders: holders.release(owner))

    async def held(self, prefix: str) -> list[Holding]:
        check_text(prefix)
        self._records.client.check()
        found = await self._records.read(self._subject)
        return self._holders(found.value).held(prefix)

    async def free(self, name: str) -> bool:
        check_text(name)
        return bool(await self._do(lambda holders: holders.free(name)))

    async def _do(self, change: Callable[[Holders], Any]) -> Any:
        self._records.client.check()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append((change, future))
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        """Do what is asked for, all at once, until nothing is."""
        try:
            while self._asked:
                batch = [each for each in self._asked if not each[1].done()]
                self._asked.clear()
                try:
                    answers = await self._write([change for change, _ in batch])
                except MotetError as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        finally:
            self._worker = None

    async def _write(self, changes: Sequence[Callable[[Holders], Any]]) -> list[Any]:
        while True:
            found = await self._records.read(self._subject)
            holders = self._holders(found.value)
            holders.turn()
            answers = [change(holders) for change in changes]
            new = pack(_saved(holders))
            if new == found.value:
                return answers
            with suppress(Mismatch):
                await self._records.write(self._subject, new, expect=found.sequence)
                return answers

    def _holders(self, value: bytes | None) -> Holders:
        state = NOTHING if value is None else _state.decode(value)
        holders = Holders(self._wall)
        holders.fences = itertools.count(state.fence)
        holders.locks = {
            lock: {name: Hold(*hold) for name, hold in holds.items()} for lock, holds in state.locks.items()
        }
        for name, (fence, until, names, spent) in state.owners.items():
            owner = holders.owners[name] = Owner()
            owner.fence, owner.until, owner.names, owner.spent = fence, until, set(names), set(spent)
        holders.uses = {rate: deque(uses) for rate, uses in state.uses.items()}
        holders.next_expiry = 0.0
        return holders


def _saved(holders: Holders) -> State:
    return State(
        next(holders.fences),
        {
            lock: {name: (hold.kind, hold.fence, hold.until) for name, hold in holds.items()}
            for lock, holds in holders.locks.items()
        },
        {
            name: (owner.fence, owner.until, tuple(sorted(owner.names)), tuple(sorted(owner.spent)))
            for name, owner in holders.owners.items()
        },
        {rate: tuple(uses) for rate, uses in holders.uses.items()},
    )


_: type[Locks] = NatsLocks
