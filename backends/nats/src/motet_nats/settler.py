"""Port P on JetStream: op by op, the acknowledgement last, and many entries at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from motet.engine.ordered import OrderedSettler
from motet.engine.wellformed import check_program
from motet.errors import MotetError
from motet.failpoints import hit
from motet.ports import DeadLetters, Entry, Locks, Reply, Settler, Timers
from motet.program import Conflict, Once
from motet_nats.gathering import together
from motet_nats.store import NatsStore
from motet_nats.transport import NatsTransport

__all__ = ["NatsSettler"]

TOGETHER = 64
"""Entries that are under way at once."""


class NatsSettler(OrderedSettler):
    """Settles entries side by side: they are independent (P6), and each waits for answers most of the time.

    The end of a single call is one record and the acknowledgement. Many of those go as two bursts: that is half the
    cost of as many walks.
    """

    def __init__(
        self, transport: NatsTransport, store: NatsStore, timers: Timers, deadletters: DeadLetters, locks: Locks
    ) -> None:
        super().__init__(transport, store, timers, deadletters, locks)
        self.records = store

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        gate = asyncio.Semaphore(TOGETHER)

        async def one(entry: Entry) -> Reply:
            async with gate:
                return await self.settle_one(entry)

        kinds = list(map(is_single, entries))
        single = list(itertools.compress(entries, kinds))
        if not single:
            return await together([one(entry) for entry in entries])
        if len(single) == len(entries):
            return await self.settle_single(single)
        rest = [entry for entry, alone in zip(entries, kinds, strict=True) if not alone]
        ended, walked = await together([self.settle_single(single), together([one(entry) for entry in rest])])
        singles, others = iter(ended), iter(walked)
        return [next(singles) if alone else next(others) for alone in kinds]

    async def settle_single(self, entries: Sequence[Entry]) -> list[Reply]:
        """Settle entries of one record each: all records, then all acknowledgements but where there was a failure."""
        records: list[Once] = []
        for entry in entries:
            check_program(entry.program)
            hit("before_settle")
            records += [op for op in entry.program if isinstance(op, Once)]
        answers = await self.records.decide(records)
        replies: list[Reply] = []
        done: list[Entry] = []
        for entry, record, answer in zip(entries, records, answers, strict=True):
            hit("after_record")
            if isinstance(answer, MotetError):
                continue
            other = answer is not None and answer != record.value
            replies.append(Reply([Conflict(record.key, answer)] if other and answer is not None else []))
            if not other:
                done.append(entry)
        hit("before_ack")
        await self.transport.ack([entry.delivery for entry in done if entry.delivery is not None])
        hit("after_ack")
        for answer in answers:
            if isinstance(answer, MotetError):
                raise answer
        return replies


def is_single(entry: Entry) -> bool:
    """Say whether an entry is one record and its acknowledgement."""
    return (
        len(entry.program) == 1
        and type(entry.program[0]) is Once
        and not (entry.settlement and entry.settlement.release)
    )


_: type[Settler] = NatsSettler
