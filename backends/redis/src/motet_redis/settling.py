"""Batches of entries on their way to the settle script: what comes while two are in flight travels together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from motet.failpoints import hit
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import Coded, batch, weigh

__all__ = ["Settling"]

SETTLE = Script.of("messages", "records", "letters", "holders", "settle")
FLIGHTS = 2
"""So many batches may be under way: one is carried out while the next one travels."""
MOST = 250
"""Entries in one script call, so that the server's one thread is never kept for more than a few milliseconds."""
HEAVY = 1000
"""Entries and messages that they send, in one: the first message of a page sends 256 others, a thousand take 3 ms."""

Answers = dict[int, Any]


def cut(entries: Sequence[Coded]) -> list[Sequence[Coded]]:
    """Cut entries into parts of one script call each."""
    parts: list[Sequence[Coded]] = []
    start = weight = 0
    for place, (_, _, ops) in enumerate(entries):
        more = 1 + weigh(ops)
        if place - start == MOST or (weight and weight + more > HEAVY):
            parts.append(entries[start:place])
            start, weight = place, 0
        weight += more
    return [*parts, entries[start:]] if parts else [entries]


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
        parts = cut(entries)
        if len(parts) == 1:
            return await self.send(entries)
        answers: Answers = {}
        first = 0
        for part in parts:
            found = await self.send(part)
            answers.update({first + index: answer for index, answer in found.items()})
            first += len(part)
        return answers

    async def send(self, entries: Sequence[Coded]) -> Answers:
        """Have entries carried out in one call, alone or with others that wait."""
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
            found = await self.client.call(SETTLE, self.client.id, self.number, *batch(entries))
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
        served: list[tuple[Sequence[Coded], asyncio.Future[Answers]]] = []
        entries: list[Coded] = []
        while self.waiting and (not served or len(cut([*entries, *self.waiting[0][0]])) == 1):
            served.append(self.waiting.popleft())
            entries += served[-1][0]
        if not served:
            return
        try:
            answers = await self.fly(entries)
        except BaseException as error:
            for _, future in served:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # whoever was cancelled does not ask
            if not isinstance(error, Exception):
                raise
            return
        first = 0
        for given, future in served:
            if not future.done():
                count = len(given)
                future.set_result(
                    {place - first: answer for place, answer in answers.items() if first <= place < first + count}
                )
            first += len(given)
