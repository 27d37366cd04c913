"""Port P on Redis: a batch is one script call, together with whatever else is settled at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from motet.engine.wellformed import check_each, check_program
from motet.errors import MotetError, Rejected, UsageError
from motet.failpoints import hit
from motet.message import Key
from motet.ports import Delivery, Entry, Reply, Settler
from motet.program import Conflict
from motet_redis.errors import refusal
from motet_redis.settling import Settling
from motet_redis.wire import entry

__all__ = ["RedisSettler"]

DONE, LOST = Reply(), Reply(lost=True)


class RedisSettler:
    """Settles batches, each entry whole or not at all."""

    def __init__(self, settling: Settling) -> None:
        self._settling = settling

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        self._settling.client.check()
        coded: list[tuple[Any, ...]] = []
        failure: MotetError | None = None
        for given in entries:
            try:
                check_program(given.program)
                if given.delivery is not None and type(given.delivery) is not Delivery:
                    check_each((given.delivery,), Delivery)
                coded.append(entry(given))
            except UsageError as error:
                failure = error
        hit("before_settle")
        answers = await self._settling.settle(coded) if coded else {}
        for what, *said in answers.values():
            if what == b"failed":
                place, words = self._settling.client.location.name, said[0].decode(errors="replace")
                failure = refusal(words, place, (Rejected, "an entry could not be settled"))
        if failure is not None:
            raise failure
        return [_reply(answers[index]) if index in answers else DONE for index in range(len(coded))]


def _reply(answer: Sequence[Any]) -> Reply:
    if answer[0] == b"lost":
        return LOST
    return Reply([Conflict(Key(run.decode(), name.decode()), stored) for run, name, stored in answer[1]])


_: type[Settler] = RedisSettler
