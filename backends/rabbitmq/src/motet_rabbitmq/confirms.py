"""What was published and is not confirmed yet: each batch is told when the broker has all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from motet.errors import MotetError
from motet_rabbitmq.errors import Nacked, Unroutable
from motet_rabbitmq.frames import Frame

__all__ = ["Batch", "Confirms"]


class Batch:
    """Messages of one publish."""

    __slots__ = ("frames", "future", "left", "refused", "returned")

    def __init__(self, frames: Sequence[Frame], future: asyncio.Future[None]) -> None:
        self.frames = frames
        self.future = future
        self.left: int = len(frames)
        self.refused: int = 0
        self.returned: list[tuple[str, str]] = []

    def end(self) -> None:
        """All is answered: tell who waits."""
        if self.future.done():
            return
        if self.refused:
            # Before what was returned: `Unroutable` promises that all else is stored.
            self.future.set_exception(Nacked(f"a queue refused {self.refused} messages: it is full, or has failed"))
        elif self.returned:
            self.future.set_exception(Unroutable(tuple(self.returned)))
        else:
            self.future.set_result(None)


class Confirms:
    """The numbers that the broker gives to what is published on one channel, counted along."""

    def __init__(self) -> None:
        self.last: int = 0
        self.waiting: dict[int, Batch] = {}

    def expect(self, batch: Batch) -> None:
        """Count a batch that is being sent."""
        first, self.last = self.last + 1, self.last + batch.left
        self.waiting.update(dict.fromkeys(range(first, self.last + 1), batch))

    def pass_over(self, count: int) -> None:
        """Count messages whose confirms nobody waits for."""
        self.last += count

    def answered(self, number: int, multiple: bool, refused: bool) -> None:
        """Take an ack, or a nack when `refused`; with `multiple` it is for all up to this one."""
        waiting = self.waiting
        numbers = [number]
        if multiple:
            numbers = list[int]()
            for each in waiting:
                if each > number > 0:
                    break
                numbers.append(each)
        for each in numbers:
            batch = waiting.pop(each, None)
            if batch is None:
                continue
            batch.left -= 1
            batch.refused += refused
            if not batch.left:
                batch.end()

    def returned(self, exchange: str, key: str, message_id: str) -> None:
        """Note that a mandatory message had no queue. Its confirm follows, and does not say so.

        The broker does not tell which it was: all that wait and look like it are taken to be it. To say that a stored
        message was not stored only has it published once more.
        """
        for batch in dict.fromkeys(self.waiting.values()):
            for frame in batch.frames:
                if (frame.exchange, frame.routing_key, frame.message_id) == (exchange, key, message_id):
                    batch.returned.append((exchange, key))
                    break

    def fail(self, error: MotetError) -> None:
        """Tell all that nobody knows; each has an error of its own."""
        waiting, self.waiting = self.waiting, {}
        for batch in dict.fromkeys(waiting.values()):
            if not batch.future.done():
                batch.future.set_exception(_again(error))
                batch.future.exception()  # who has gone away does not miss it


def _again(error: MotetError) -> MotetError:
    made = type(error)(*error.args)
    made.__cause__ = error.__cause__
    return made
