"""Batches of entries on their way to the settle script: what comes while two are in flight travels together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from motet.failpoints import hit
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import encode

__all__ = ["Settling"]

SETTLE = Script.of("messages", "records", "letters", "holders", "settle")
FLIGHTS = 2
"""So many batches may be under way: one is carried out while the next one travels."""
MOST = 250
"""Entries in one script call, so that the server's one thread is never kept for more than a few milliseconds."""

Coded = tuple[Any, ...]
Answers = dict[int, Any]


class Settling:
    """Sends entries in batches. An answer tells of each entry that is not simply done, by its place."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.waiting: deque[tuple[Sequence[Coded], asyncio.Future[Answers]]] = deque()
        self.flights: int = 0
        self.number: int = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def settle(self, entries: Sequence[Coded]) -> Answers:
        """Have entries carried out, in their order."""
        if len(entries) > MOST:
            answers: Answers = {}
            for first in range(0, len(entries), MOST):
                part = await self.settle(entries[first : first + MOST])
                answers.update({first + index: answer for index, answer in part.items()})
            return answers
        if self.flights < FLIGHTS and not self.waiting:
            return await self.fly(entries)
        future: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self.waiting.append((entries, future))
        return await future

    async def fly(self, entries: Sequence[Coded]) -> Answers:
        """Send one batch; then see to those who have come meanwhile."""
        self.flights += 1
        self.number += 1
        try:
            found = await self.client.call(SETTLE, self.client.id, self.number, encode(entries))
            hit("after_script")
            return {answer[0] - 1: answer[1:] for answer in found}
        finally:
            self.flights -= 1
            if self.waiting:
                task = asyncio.get_running_loop().create_task(self.serve())
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def serve(self) -> None:
        """Send what waits, as one batch."""
        batch: list[tuple[Sequence[Coded], asyncio.Future[Answers]]] = []
        entries: list[Coded] = []
        while self.waiting and (not batch or len(entries) + len(self.waiting[0][0]) <= MOST):
            batch.append(self.waiting.popleft())
            entries += batch[-1][0]
        if not batch:
            return
        try:
            answers = await self.fly(entries)
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # whoever was cancelled does not ask
            if not isinstance(error, Exception):
                raise
            return
        first = 0
        for given, future in batch:
            if not future.done():
                count = len(given)
                future.set_result(
                    {place - first: answer for place, answer in answers.items() if first <= place < first + count}
                )
            first += len(given)
