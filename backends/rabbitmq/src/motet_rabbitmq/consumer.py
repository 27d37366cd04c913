"""A consumer: what the broker pushes is taken in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from motet.errors import MotetError
from motet_rabbitmq.frames import Delivery

__all__ = ["Consumer"]


class Consumer:
    """Deliveries of one queue, in the broker's order. Made by `Channel.consume`, for one reader."""

    def __init__(
        self, queue: str, tag: str, stop: Callable[[str], Awaitable[None]], drop: Callable[[str], None]
    ) -> None:
        self.queue = queue
        self.tag = tag
        self.come: list[Delivery] = []
        self.failure: Callable[[], MotetError] | None = None
        self.heard: Callable[[], None] | None = None
        """Called whenever somebody who waits would go on."""
        self.sift: Callable[[Delivery], bool] | None = None
        """Takes what nobody needs to be woken for."""
        self._stop = stop
        self._drop = drop
        self._waiter: asyncio.Future[None] | None = None
        self._stirred = False

    @property
    def waiting(self) -> int:
        """How many `batch` would return at once."""
        return len(self.come)

    async def batch(self, limit: int | None = None) -> list[Delivery]:
        """Wait for at least one delivery, or for `stir`; return all that have come, `limit` at most.

        Cancelling it loses nothing. What came before the channel died is not returned any more: it comes again.

        Raises:
            ConsumerGone: The broker ended the consumer.
            Lost: The channel or the connection ended.
        """
        while not (self.come or self._stirred) or self.failure is not None:
            if self.failure is not None:
                raise self.failure()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._stirred = False
        return self.take(limit)

    def stir(self) -> None:
        """Have whoever waits go on, though nothing has come."""
        self._stirred = True
        self._wake()

    def take(self, limit: int | None = None) -> list[Delivery]:
        """Return what has come, perhaps nothing, `limit` at most."""
        if limit is None or len(self.come) <= limit:
            taken, self.come = self.come, []
        else:
            taken = self.come[:limit]
            del self.come[:limit]
        return taken

    async def cancel(self) -> list[Delivery]:
        """Stop; return what has come and was not taken, which the channel still holds.

        Raises:
            Lost: The channel or the connection ended.
        """
        if self.failure is not None:
            raise self.failure()
        await self._stop(self.tag)
        return self.take()

    def drop(self) -> list[Delivery]:
        """Stop without waiting for it; return what has come and was not taken. What still comes is given back."""
        if self.failure is None:
            self._drop(self.tag)
        return self.take()

    def push(self, delivery: Delivery) -> None:
        """Add one. Whoever waits goes on when all of this turn have been added."""
        if self.sift is None or not self.sift(delivery):
            self.come.append(delivery)
            self._wake()

    def fail(self, failure: Callable[[], MotetError]) -> None:
        """Tell whoever waits, now or later, that no more comes."""
        if self.failure is None:
            self.failure = failure
            self.come.clear()
            self._wake()

    def _wake(self) -> None:
        if self.heard is not None:
            self.heard()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
