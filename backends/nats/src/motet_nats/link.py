"""One connection that any number of callers share: each answer finds its caller by the last token of its subject.

nats-py makes the connection, reads it, and would reconnect by itself; we do not let it: what was asked on a connection
that broke must be told so at once, and pull requests do not outlive it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from nats.errors import ConnectionClosedError, Error, NoServersError

from motet_nats.answers import Burst
from motet_nats.connection import Connection, Message, Question, Secret
from motet_nats.errors import BROKEN
from motet_nats.location import Location

__all__ = ["PATIENCE", "Late", "Link", "Slot", "status"]

Handler = Callable[[Message | None], None]
"""Takes each message that comes to an inbox, and None when no more can come."""

PING = 5
"""Seconds between two looks whether the server lives; two without an answer end the connection."""


PATIENCE = 1.5
"""Seconds after which whoever asked is told that there was no answer: a cluster without a leader gives none."""
FLUSH = 60
"""Seconds that nobody waits for: whoever asks has less patience."""
LOOK = 0.25
"""Seconds between two looks at who has waited so long; a timer for each would cost as much as the asking."""


class Late(Error):
    """Raised when a question has had no answer in time; whether it was done, nobody knows."""


class Slot:
    """An inbox of its own for one pull at a time: what is pulled comes under the subject that it was stored under."""

    __slots__ = ("handler", "inbox")

    def __init__(self, inbox: str) -> None:
        self.inbox: str = inbox
        self.handler: Handler | None = None

    def take(self, message: Message | None) -> None:
        if self.handler is not None:
            self.handler(message)


class Link:
    """A connection in use. After the first failure it is broken for good, and all who wait are told."""

    def __init__(self, *, secure: bool = False) -> None:
        self.connection: Connection = Secret() if secure else Connection()
        self.broken: BaseException | None = None
        self.said: BaseException | None = None
        self.inbox: str = ""
        self.handlers: dict[str, Handler] = {}
        self.slots: list[Slot] = []
        self.free: list[Slot] = []
        self.numbers: itertools.count[int] = itertools.count()
        self.asked: dict[str, Burst] = {}
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.looking: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, location: Location, server: str, timeout: float) -> Link:
        """Connect to one server.

        Raises:
            Error: It refused.
            OSError: Nobody is there.
        """
        link = cls(secure=location.secure)
        options: dict[str, Any] = dict(location.options)
        if (context := location.tls()) is not None:
            options["tls"] = context
        try:
            await link.connection.connect(
                [server],
                allow_reconnect=False,
                max_reconnect_attempts=1,  # it tries again before it gives up, also without leave to connect again
                reconnect_time_wait=0,
                connect_timeout=max(1, round(timeout)),
                ping_interval=PING,
                max_outstanding_pings=2,
                error_cb=link._hears,
                closed_cb=link._closed,
                name="motet",
                pending_size=64 * 1024 * 1024,
                **options,
            )
            link.connection.watch(link._ended)
            link.connection.read_straight()
            link.inbox = link.connection.new_inbox()
            await link.listen(f"{link.inbox}.*", link._dispatch)
        except NoServersError as error:
            link.abort()
            raise link.said or error from error
        except BaseException as error:
            # Nothing is awaited: it may be that our time is over.
            link.breaks(error)
            link.abort()
            raise
        return link

    async def listen(self, subject: str, handler: Callable[[Message], None]) -> int:
        """Have a handler called for whatever comes to a subject; return what to end that by, before the link ends.

        Raises:
            ConnectionClosedError: The connection is broken.
        """
        self.check()
        return await self.connection.listen(subject, handler)

    async def caught_up(self) -> None:
        """Return when the server has done what it was told before; until then others may not find us listening."""
        self.check()
        await self.connection.caught_up(FLUSH)

    async def ignore(self, number: int) -> None:
        """End what `listen` began, unless the connection has ended."""
        if self.lives():
            await self.connection.ignore(number)

    async def slot(self, handler: Handler) -> Slot:
        """Take a slot, which is given back by `leave` when the server has done with the pull."""
        self.check()
        if self.free:
            slot = self.free.pop()
        else:
            slot = Slot(self.connection.new_inbox())
            self.slots.append(slot)
            slot.handler = handler
            await self.listen(slot.inbox, slot.take)
        slot.handler = handler
        return slot

    def leave(self, slot: Slot) -> None:
        """Give a slot back."""
        slot.handler = None
        self.free.append(slot)

    def expect(self, handler: Handler) -> str:
        """Make an inbox, and return what to forget it by."""
        self.check()
        name = str(next(self.numbers))
        self.handlers[name] = handler
        return name

    def forget(self, name: str) -> None:
        """Take nothing more from an inbox."""
        self.handlers.pop(name, None)

    async def send(self, subject: str, payload: bytes, reply: str, *, hurry: bool = True) -> None:
        """Publish, at once or with what is sent next; what answers goes to the inbox of that name.

        Raises:
            ConnectionClosedError: The connection is broken.
        """
        self.check()
        await self.connection.tell(subject, payload, reply, hurry=hurry)

    async def ask(self, question: Question) -> Message:
        """Publish, and return the answer.

        Raises:
            ConnectionClosedError: The connection broke; whether it was done, nobody knows.
            Late: There was no answer in time, likewise.
        """
        burst = Burst(1, self.loop)
        await self._put((question,), burst)
        answer = burst.answers[0]
        assert answer is not None
        return answer

    async def ask_all(self, questions: Sequence[Question]) -> list[Message | None]:
        """Publish all, in their order, and return the answers; None where `ask` would have failed."""
        burst = Burst(len(questions), self.loop)
        with suppress(*BROKEN):
            await self._put(questions, burst)
        return burst.answers

    async def ask_last(self, questions: Sequence[Question]) -> Message | None:
        """Publish all, in their order, and return the answer to the last; None where `ask` would have failed."""
        burst = Burst(1, self.loop)
        with suppress(*BROKEN):
            await self._put(questions, burst, last=True)
        return burst.answers[0]

    async def _put(self, questions: Sequence[Question], burst: Burst, *, last: bool = False) -> None:
        """Ask, under one name for all of them, and wait until there is an answer to each, or to the last."""
        self.check()
        if not questions:
            return
        name = str(next(self.numbers))
        self.asked[name] = burst
        if self.looking is None:
            self.looking = self.loop.call_later(LOOK, self._look)
        try:
            await self.connection.post(questions, f"{self.inbox}.{name}-", last=last)
            await burst.done
        finally:
            self.asked.pop(name, None)

    def _look(self) -> None:
        """Tell those who have waited for too long; they stand in the order in which they came."""
        self.looking = self.loop.call_later(LOOK, self._look) if self.asked else None
        before = self.loop.time() - PATIENCE
        for name, burst in list(self.asked.items()):
            if burst.since > before:
                break
            del self.asked[name]
            burst.fail(Late())

    async def gather(self, subject: str, payload: bytes) -> list[Message]:
        """Publish, and return all answers up to the one that has a status; that one comes last.

        Raises:
            ConnectionClosedError: The connection broke.
        """
        queue: asyncio.Queue[Message | None] = asyncio.Queue()
        name = self.expect(queue.put_nowait)
        found: list[Message] = []
        try:
            await self.send(subject, payload, f"{self.inbox}.{name}")
            while not found or not status(found[-1]):
                message = await queue.get()
                if message is None:
                    raise ConnectionClosedError
                found.append(message)
        finally:
            self.forget(name)
        return found

    def lives(self) -> bool:
        """Say whether it can be used."""
        if self.broken is None and self.connection.is_closed:
            self.breaks(self.said or ConnectionClosedError())
        return self.broken is None

    def check(self) -> None:
        """Refuse to use what is broken.

        Raises:
            ConnectionClosedError: It is.
        """
        if not self.lives():
            raise ConnectionClosedError from self.broken

    def _dispatch(self, message: Message) -> None:
        name, dash, place = message.subject[len(self.inbox) + 1 :].partition("-")
        if dash:
            if (burst := self.asked.get(name)) is not None:
                burst.take(int(place), message)
        elif (handler := self.handlers.get(name)) is not None:
            handler(message)

    async def _hears(self, error: Exception) -> None:
        self.said = error

    async def _closed(self) -> None:
        self._ended(None)

    def _ended(self, error: BaseException | None) -> None:
        self.breaks(self.said or error or ConnectionClosedError())

    def breaks(self, error: BaseException) -> None:
        """Tell all who wait; nobody can say what was done of what they asked."""
        if self.broken is not None:
            return
        self.broken = error
        handlers, self.handlers = self.handlers, {}
        for handler in handlers.values():
            handler(None)
        for burst in self.asked.values():
            burst.fail(ConnectionClosedError())
        if self.looking is not None:
            self.looking.cancel()
        for slot in self.slots:
            slot.take(None)

    async def close(self) -> None:
        """Hang up."""
        self.breaks(ConnectionClosedError())
        with suppress(Error, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self.connection.close(), 1)
        self.abort()

    def abort(self) -> None:
        """Leave nothing behind."""
        self.connection.abort()


def status(message: Message) -> str:
    """The status of a message of the server, or nothing: then it is one of a stream."""
    return message.head[9:12].decode() if message.head[8:9] == b" " else ""
