"""Calls on their way to a shard: by its queue, or in memory to an owner in this very process.

A request is written into a shard's queue so that it outlives its owner. Who asks an owner of the same process dies with
it, so that what it asks need not be written: what comes of it is, before it is answered.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from motet.errors import MotetError, Unavailable, UsageError
from motet_rabbitmq.calls import Method
from motet_rabbitmq.errors import BackendFull, Lost
from motet_rabbitmq.wire import Asked, Reply, Status

__all__ = ["Call", "Errand", "Mailbox", "fail", "parts"]

T = TypeVar("T")
R = TypeVar("R")

REQUEST_MOST = 256 * 1024


class Call(Generic[R]):
    """A call that waits for its answer until a moment of the loop's clock."""

    __slots__ = ("answer", "asked", "give_up", "method", "shard")

    def __init__(
        self, shard: int, method: Method[Any, ..., R], asked: Asked, answer: asyncio.Future[Reply], give_up: float
    ) -> None:
        self.shard = shard
        self.method = method
        self.asked = asked
        self.answer = answer
        self.give_up = give_up

    async def result(self) -> R:
        """Wait for the answer, and read it; `Asking.ask` says what is raised."""
        reply = await self.answer
        match reply.status:
            case Status.DONE:
                return self.method.answer(reply.value)
            case Status.FULL:
                raise BackendFull(int(reply.value))
            case Status.REFUSED:
                raise UsageError(reply.value.decode())
            case Status.UNKNOWN:
                raise Unavailable(f"the owner of the shard does not know {self.method.name}: upgrade all workers")

    def end(self, reply: Reply) -> None:
        """Have an answer, unless nobody waits for it any more."""
        if not self.answer.done():
            self.answer.set_result(reply)


class Mailbox(Generic[T]):
    """Brings things into a loop from other threads, which wakes once for all that have come meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[list[T]], None]) -> None:
        self.loop = loop
        self.take = take
        self._lock = threading.Lock()
        self._come: list[T] = []
        self._closed = False

    def post(self, item: T) -> bool:
        """Bring something; False when nobody takes it any more."""
        with self._lock:
            if self._closed:
                return False
            self._come.append(item)
            waking = len(self._come) == 1
        if waking:
            try:
                self.loop.call_soon_threadsafe(self._empty)
            except RuntimeError:  # the loop has been closed without a word
                self.close()
                return False
        return True

    def _empty(self) -> None:
        with self._lock:
            come, self._come = self._come, []
        self.take(come)

    def close(self) -> list[T]:
        """Take nothing more; return what nobody has taken."""
        with self._lock:
            self._closed = True
            come, self._come = self._come, []
        return come


class Errand:
    """Calls that an owner of this process is handed, for one shard. It comes back by its sender's mailbox."""

    __slots__ = ("back", "calls", "failure", "replies", "shard")

    def __init__(self, shard: int, calls: Sequence[Call[Any]], back: Mailbox[Errand]) -> None:
        self.shard = shard
        self.calls = calls
        self.back = back
        self.replies: Sequence[Reply] | None = None
        self.failure: MotetError | None = None

    @property
    def asked(self) -> list[Asked]:
        return [call.asked for call in self.calls]

    def answer(self, replies: Sequence[Reply]) -> None:
        """It is done, and will stay so."""
        self.replies = replies
        self.back.post(self)

    def lost(self) -> None:
        """Whether it is done, nobody knows."""
        self.failure = Lost("the shard was lost while it carried that out; it may be done")
        self.back.post(self)

    def untouched(self) -> None:
        """Nothing of it was done: it must go by the queue."""
        self.back.post(self)


def fail(calls: Iterable[Call[Any]], error: MotetError) -> None:
    """Let calls know that there will be no answer."""
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(error)
            call.answer.exception()  # whoever gave up does not ask for it


def parts(calls: Sequence[Call[Any]]) -> Iterable[list[Call[Any]]]:
    """Cut calls into requests of some 256 KiB."""
    part: list[Call[Any]] = []
    size = 0
    for call in calls:
        weight = len(call.asked.arguments)
        if part and size + weight > REQUEST_MOST:
            yield part
            part, size = [], 0
        part.append(call)
        size += weight
    if part:
        yield part
