"""One client of a server or cluster: what is asked on its one connection is asked again when that breaks."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from nats.errors import NoRespondersError

from motet.errors import BackendError, MotetError, Rejected, TooLarge, Unavailable, UsageError
from motet.failpoints import register
from motet.ports import Settings
from motet_nats.answers import read_answer, stored_at
from motet_nats.connection import Message, Question
from motet_nats.errors import BROKEN, BUSY, Mismatch, ServerError, translate
from motet_nats.gathering import together
from motet_nats.link import PATIENCE, Late, Link, status
from motet_nats.location import Location
from motet_nats.names import Names

__all__ = ["FAILPOINTS", "Client", "removal"]

log: logging.Logger = logging.getLogger("motet.nats")

FAILPOINTS = register(
    {
        "after_fetch": "the server has leased messages to this worker, which has not read the answer",
        "after_pass_on": "a message whose lease was over has a new sequence; whoever put it back has not taken it",
        "after_claim": "the record that decides over a key is written; the parcel is not published",
        "after_fire": "a schedule has moved on; what is due is not published",
        "between_parcels": "one of the parcels of a call is stored; the next may be, or not",
        "between_parts": "a part of a large value is stored; the record that names it is not",
        "after_slot": "a slot of a barrier is stored; nobody has counted it",
        "after_withdrawn": "it is noted that a parked parcel is taken back; it is there still",
        "after_letter": "a dead letter is claimed by who replays it; the parcel is not published",
        "after_replay": "the parcel of a dead letter is published; the letter is there still",
    }
)

PAUSES = (0.0, 0.05, 0.1, 0.2, 0.5)
"""Seconds before each attempt to connect; the last one for all that follow."""
AGAIN = 0.05
"""Seconds until what a server was too busy for, or does not serve yet, is asked again."""
HEADERS = 4096
"""Bytes of a message that are not its payload, at most."""
EXPECT = "Nats-Expected-Last-Subject-Sequence"
WITHIN = f"{EXPECT}-Subject"

T = TypeVar("T")

encode: Callable[[Any], bytes] = msgspec.json.encode


class Client:
    """What the ports of one backend share. Whatever is sent by `ask` may arrive twice."""

    def __init__(self, location: Location, settings: Settings) -> None:
        self.location = location
        self.settings = settings
        self.names: Names = Names(settings.namespace)
        self.timeout: float = settings.timeout.total_seconds()
        self.id: str = secrets.token_hex(6)
        self.numbers: itertools.count[int] = itertools.count(1)
        self.closed: bool = False
        self.link: Link | None = None
        self.connecting: asyncio.Lock = asyncio.Lock()
        self.failure: BaseException | None = None
        self.ready: Callable[[Link], Awaitable[None]] | None = None
        """What is done first on each new connection."""
        self.turn: int = 0
        self.hanging_up: set[asyncio.Task[None]] = set()

    def check(self) -> None:
        """Refuse a client that was closed (B4).

        Raises:
            UsageError: It was.
        """
        if self.closed:
            raise UsageError("this nats backend is closed")

    def nonce(self) -> str:
        """Make a name that nobody else has."""
        return f"{self.id}{next(self.numbers):x}"

    @property
    def room(self) -> int:
        """Bytes that one message may carry."""
        limit = 1024 * 1024 if self.link is None else self.link.connection.max_payload
        return limit - HEADERS

    # Asking.

    async def keep_asking(self, call: Callable[[Link], Awaitable[T]], spent: float = 0.0) -> T:
        """Do something on the connection, again and again while it breaks or nobody serves us.

        Raises:
            Unavailable: There was no answer within the timeout; it may have been done.
            Rejected: The server refused.
        """
        link: Link | None = None
        try:
            async with asyncio.timeout(self.timeout - spent):
                while True:
                    self.check()
                    link = self.link
                    if link is None or not link.lives():
                        link = await self.connected()
                    patience = asyncio.timeout(PATIENCE)
                    try:
                        async with patience:
                            return await call(link)
                    except TimeoutError:
                        if not patience.expired():
                            raise
                        # A cluster without a leader answers nothing, and does not remember what it was asked.
                    except Late:
                        pass
                    except ServerError as error:
                        if error.code not in BUSY:
                            raise
                        self.failure = error
                        await asyncio.sleep(AGAIN)
                    except NoRespondersError as error:
                        self.failure = error
                        await asyncio.sleep(AGAIN)
                    except BROKEN as error:
                        if link.lives():
                            raise
                        self.failure = link.said or error
        except TimeoutError as error:
            if link is not None and link.said is not None:
                self.failure = link.said  # such as that we may not do that
            elif link is not None and not isinstance(self.failure, NoRespondersError | ServerError):
                link.breaks(error)  # half open, or stuck: nobody should wait behind it
                self.hang_up(link)
            raise self.unanswered() from self.failure
        except BROKEN as error:
            raise translate(error, self.location.name) from error

    async def tell(self, call: Callable[[Link], Awaitable[None]]) -> None:
        """Do something that waits for no answer: on a connection that is there it costs no timer.

        Raises:
            Unavailable: There was no connection within the timeout.
        """
        link = self.link
        if link is not None and not self.closed and link.lives():
            with suppress(*BROKEN):
                return await call(link)
        return await self.keep_asking(call)

    async def ask(self, subject: str, payload: bytes = b"") -> Message:
        """Send, and return the answer.

        Raises:
            Unavailable: There was none within the timeout; it may have been done.
        """
        return await self._once_or_more(Question(subject, payload), _itself)

    async def _once_or_more(self, question: Question, read: Callable[[Message], T]) -> T:
        """Ask, and ask again where that is called for; most are answered at once, and cost no timer."""

        async def call(link: Link) -> T:
            message = await link.ask(question)
            if status(message) == "503":
                raise NoRespondersError
            return read(message)

        link, spent = self.link, 0.0
        if link is not None and not self.closed and link.lives():
            began = link.loop.time()
            try:
                return await call(link)
            except ServerError as error:
                if error.code not in BUSY:
                    raise
            except BROKEN:
                spent = link.loop.time() - began
        return await self.keep_asking(call, spent)

    async def api(self, verb: str, request: Any = None) -> dict[str, Any]:
        """Call the API of JetStream.

        Raises:
            ServerError: It refused.
            Unavailable: There was no answer.
        """
        payload = b"" if request is None else encode(request)
        return await self._once_or_more(Question(f"$JS.API.{verb}", payload), read_answer)

    async def remove(self, stream: str, sequence: int) -> None:
        """Remove a message of a stream.

        Raises:
            ServerError: It refused; for one, because there is no such message any more.
            Unavailable: There was no answer.
        """
        await self._once_or_more(removal(stream, sequence), stored_at)

    async def ask_all(self, questions: Sequence[Question]) -> list[int | ServerError | MotetError]:
        """Ask many, in their order, and return where each thing was stored, or why it was not.

        It takes no task, future, timer or coroutine for each, which would be most of its cost.
        """
        found: list[int | ServerError | MotetError | None] = [None] * len(questions)
        link = self.link
        if link is not None and not self.closed and link.lives():
            found = list(map(_read, await link.ask_all(questions)))

        async def again(question: Question) -> int | ServerError | MotetError:
            try:
                return await self._once_or_more(question, stored_at)
            except (ServerError, MotetError) as error:
                return error

        late = [place for place, answer in enumerate(found) if answer is None]
        for place, answer in zip(late, await together([again(questions[place]) for place in late]), strict=True):
            found[place] = answer
        return [answer for answer in found if answer is not None]

    async def ask_in_turn(self, questions: Sequence[Question]) -> list[int | ServerError | MotetError]:
        """Ask many of one server, which does one after the other: when it answers the last one, all are done.

        What was done already must not matter, for all are asked again, each by itself, where the last was refused.
        """
        link = self.link
        if link is not None and not self.closed and link.lives():
            answer = _read(await link.ask_last(questions))
            if type(answer) is int:
                return [answer] * len(questions)
        return await self.ask_all(questions)

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        expect: int | None = None,
        within: str = "",
        headers: dict[str, str] | None = None,
        once: bool = False,
    ) -> int:
        """Store a message, and return its sequence.

        `expect` is the sequence of the last message under `within`, or under the subject itself; 0 is for none. With
        `once` a repetition of ours is recognized, for two minutes.

        Raises:
            Mismatch: Something else was stored there, or this already, on an attempt whose answer was lost.
            Unavailable: There was no answer; it may be stored.
            TooLarge: It is more than the server takes.
        """
        return await self.store(
            self.storing(subject, payload, expect=expect, within=within, headers=headers, once=once)
        )

    async def store(self, asked: Question) -> int:
        """Do what `storing` has written; see `publish`."""
        try:
            return await self._once_or_more(asked, stored_at)
        except Mismatch:
            raise
        except ServerError as error:
            raise translate(error, self.location.name) from error

    def storing(
        self,
        subject: str,
        payload: bytes,
        *,
        expect: int | None = None,
        within: str = "",
        headers: dict[str, str] | None = None,
        once: bool = False,
    ) -> Question:
        """Say what `publish` asks.

        Raises:
            TooLarge: It is more than the server takes.
        """
        if len(payload) > self.room:
            raise TooLarge("a message to NATS", len(payload), self.room)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) if headers else ""
        if expect is not None:
            lines += f"{EXPECT}: {expect}\r\n{WITHIN}: {within}\r\n" if within else f"{EXPECT}: {expect}\r\n"
        if once:
            lines += f"Nats-Msg-Id: {self.nonce()}\r\n"
        return Question(subject, payload, lines)

    def unanswered(self) -> BackendError:
        """Say that nobody answered, and what was heard last."""
        if self.failure is not None:
            said = translate(self.failure, self.location.name)
            if isinstance(said, Unavailable):
                return Unavailable(f"{said}; gave up after {self.timeout:g} s")
            if isinstance(said, Rejected):
                return said
        return Unavailable(f"{self.location.name}: no answer within {self.timeout:g} s")

    # The connection.

    async def connected(self) -> Link:
        """Return the connection, made anew if it has broken; callers go on in the order in which they came."""
        async with self.connecting:
            attempt = 0
            while self.link is None or not self.link.lives():
                self.check()
                if self.link is not None:
                    broken, self.link = self.link, None
                    self.hang_up(broken)
                await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
                attempt += 1
                try:
                    self.link = await self.connect()
                except BROKEN as error:
                    self.failure = error
            return self.link

    async def connect(self) -> Link:
        """Connect to the server whose turn it is.

        Raises:
            Rejected: It lets nobody in who comes so.
        """
        server = self.location.servers[self.turn % len(self.location.servers)]
        self.turn += 1
        try:
            link = await Link.open(self.location, server, self.timeout)
        except ImportError as error:
            raise translate(error, self.location.name) from error
        except ValueError as error:  # keys that are none
            raise translate(error, self.location.name) from error
        except BROKEN as error:
            said = translate(error, self.location.name)
            if isinstance(said, Rejected):
                raise said from error
            raise
        self.turn -= 1
        try:
            if self.ready is not None:
                await self.ready(link)
        except BaseException:
            await link.close()
            raise
        return link

    async def close(self) -> None:
        """Hang up, and refuse whatever comes."""
        self.closed = True
        if self.link is not None:
            self.hang_up(self.link)
        if self.hanging_up:
            await asyncio.wait(self.hanging_up)

    def hang_up(self, link: Link) -> None:
        """Close a connection; nobody waits for that but the end."""
        task = asyncio.get_running_loop().create_task(link.close())
        self.hanging_up.add(task)
        task.add_done_callback(self.hanging_up.discard)


def removal(stream: str, sequence: int) -> Question:
    """Say what removes a message."""
    return Question(f"$JS.API.STREAM.MSG.DELETE.{stream}", b'{"seq":%d,"no_erase":true}' % sequence)


def _read(answer: Message | None) -> int | ServerError | None:
    """Read an answer; None when there was none, or it was that we shall ask again."""
    if answer is None or status(answer) == "503":
        return None
    try:
        return stored_at(answer)
    except ServerError as error:
        return error if error.code not in BUSY else None


def _itself(message: Message) -> Message:
    return message
