"""What comes in on a channel: answers, confirms and deliveries find whoever waits for them."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Any, NamedTuple

from motet.errors import MotetError
from motet_rabbitmq.amqp import METHODS, decode, encode
from motet_rabbitmq.confirms import Confirms
from motet_rabbitmq.connection import Connection
from motet_rabbitmq.consumer import Consumer
from motet_rabbitmq.errors import ConsumerGone, Lost, Refusal, translate
from motet_rabbitmq.frames import Delivery
from motet_rabbitmq.held import Held

__all__ = ["Inbox"]

DELIVER, RETURN, GET_OK, ACK = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x32", b"\x00\x3c\x00\x47", b"\x00\x3c\x00\x50"
TAG = struct.Struct(">QB")
SIZE = struct.Struct(">Q")
ROUTES = 1000
"""So many ways of messages are remembered; every consumer has its own."""
BLAMED = {"tx.commit": ("tx.commit", "basic.publish", "basic.ack")}
"""What a broker may name when it refuses what a question was about."""


class Asked(NamedTuple):
    """A question, whose answer is the next that comes."""

    name: str
    no_ack: bool
    answer: asyncio.Future[list[Any]]


class Coming(NamedTuple):
    """A message of which the first part has come."""

    tag: int
    redelivered: bool
    exchange: str
    key: str
    consumer: str
    """Whose it is; nothing when it was asked for."""
    kind: bytes


class Inbox:
    """Of one channel. `failure` is why it is dead."""

    def __init__(self, connection: Connection, place: str) -> None:
        self.connection = connection
        self.place = place
        self.number: int = 0
        self.failure: BaseException | None = None
        self.confirms: Confirms = Confirms()
        self.held: Held = Held(0)
        self.returned: list[tuple[str, str]] = []
        """What came back since the last commit."""
        self._asked: deque[Asked] = deque()
        self._consumers: dict[str, tuple[Consumer, bool]] = {}
        self._routes: dict[bytes, list[str]] = {}
        self._coming: Coming | None = None
        self._raw: bytes = b""
        self._size: int = 0
        self._parts: list[bytes] = []

    def begin(self, number: int) -> Inbox:
        """Take a number."""
        self.number = number
        self.held = Held(number)
        return self

    # Who waits.

    def expect(self, name: str, no_ack: bool = False) -> asyncio.Future[list[Any]]:
        """Return what will be the answer to a question that is being sent."""
        answer: asyncio.Future[list[Any]] = self.connection.loop.create_future()
        self._asked.append(Asked(name, no_ack, answer))
        return answer

    def consume(self, consumer: Consumer, no_ack: bool) -> None:
        """Expect deliveries for a consumer."""
        self._consumers[consumer.tag] = consumer, no_ack

    def forget(self, tag: str) -> None:
        """Expect none any more; what still comes is given back."""
        self._consumers.pop(tag, None)

    def give_back(self, answers: list[asyncio.Future[list[Any]]]) -> None:
        """Return what has come for somebody who has gone away before all had."""
        for answer in answers:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                for each in answer.result():
                    if each.tag in self.held.tags:
                        self._give_back(each)

    # What comes.

    def method(self, payload: bytes) -> None:
        """Take a method; the two that come for every message are read by hand."""
        kind = payload[:4]
        if kind == DELIVER:
            at = 5 + payload[4]
            tag, redelivered = TAG.unpack_from(payload, at)
            said = payload[4:at] + payload[at + 9 :]
            route = self._routes.get(said)
            if route is None:
                route = self._route(said)
            self._coming = Coming(tag, redelivered != 0, route[1], route[2], route[0], kind)
        elif kind == ACK:
            number, multiple = TAG.unpack_from(payload, 4)
            self.confirms.answered(number, multiple != 0, False)
        else:
            self._other(*decode(payload), kind)

    def _route(self, said: bytes) -> list[str]:
        """Read a consumer, an exchange and a key, and remember them: 1 us less for each message that is alike."""
        route: list[str] = []
        at = 0
        for _ in range(3):
            stop = at + 1 + said[at]
            route.append(said[at + 1 : stop].decode("utf-8", "replace"))
            at = stop
        if len(self._routes) >= ROUTES:
            self._routes.clear()
        self._routes[said] = route
        return route

    def _other(self, name: str, arguments: list[Any], kind: bytes) -> None:
        match name:
            case "basic.get-ok":
                tag, redelivered, exchange, key, _ = arguments
                self._coming = Coming(tag, redelivered, exchange, key, "", kind)
            case "basic.return":
                self._coming = Coming(0, False, arguments[2], arguments[3], "", kind)
            case "basic.nack":
                self.confirms.answered(arguments[0], arguments[1], True)
            case "basic.get-empty":
                self._answered("basic.get", [])
            case "basic.cancel":
                self._cancelled(arguments[0])
            case "channel.close":
                self.connection.send(encode(self.number, "channel.close-ok"))
                self.connection.leave(self.number)
                code, said, *method = arguments
                self.lost(Refusal(code, said, (method[0], method[1])))
            case "channel.flow":
                self.connection.send(encode(self.number, "channel.flow-ok", arguments[0]))
            case _:
                self._answered(name.removesuffix("-ok"), arguments)

    def header(self, payload: bytes) -> None:
        """Take the size of a body, and the properties beside it."""
        (self._size,) = SIZE.unpack_from(payload, 4)
        self._raw = payload[12:]
        if not self._size:
            self._came(b"")

    def body(self, payload: bytes) -> None:
        """Take a body, or a part of one."""
        if len(payload) == self._size and not self._parts:
            self._came(payload)
            return
        self._parts.append(payload)
        if sum(map(len, self._parts)) >= self._size:
            parts, self._parts = self._parts, []
            self._came(b"".join(parts))

    def _came(self, body: bytes) -> None:
        """Hand a whole message over."""
        coming, self._coming = self._coming, None
        if coming is None:
            return
        tag, redelivered, exchange, key, name, kind = coming
        delivery = Delivery(tag, redelivered, exchange, key, body, self._raw)
        if kind == DELIVER:
            self._delivered(name, delivery)
        elif kind == RETURN:
            self.returned.append((exchange, key))
            self.confirms.returned(exchange, key, delivery.message_id)
        else:
            self._got(delivery)

    def _delivered(self, name: str, delivery: Delivery) -> None:
        known = self._consumers.get(name)
        if known is None:
            self.held.tags[delivery.tag] = None
            self._give_back(delivery)
            return
        consumer, no_ack = known
        if not no_ack:
            self.held.tags[delivery.tag] = None
        consumer.push(delivery)

    def _got(self, delivery: Delivery) -> None:
        asked = self._first("basic.get")
        if asked is None:
            return
        if not asked.no_ack:
            self.held.tags[delivery.tag] = None
        if not asked.answer.done():
            asked.answer.set_result([delivery])
        elif not asked.no_ack:
            self._give_back(delivery)

    def _give_back(self, delivery: Delivery) -> None:
        """Return what nobody waits for any more."""
        self.connection.send(self.held.nacks([delivery.tag], requeue=True))

    def _first(self, name: str) -> Asked | None:
        """Take the first question of a kind that waits: RabbitMQ answers those of one kind in their order.

        Of different kinds it does not: the answers to consume and cancel take another way through the broker, and a
        later get overtakes them.
        """
        for place, asked in enumerate(self._asked):
            if asked.name == name:
                del self._asked[place]
                return asked
        return None

    def _answered(self, name: str, arguments: list[Any]) -> None:
        asked = self._first(name)
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(arguments)

    def _cancelled(self, tag: str) -> None:
        """Tell a consumer that the broker has ended it."""
        known = self._consumers.pop(tag, None)
        if known is not None:
            place, queue = self.place, known[0].queue
            known[0].fail(lambda: ConsumerGone(f"{place}: the broker ended the consumer of {queue!r}: it was deleted"))

    # The end.

    def lost(self, error: BaseException) -> None:
        """Be dead, and tell all who wait. Only what was refused is told the refusal; for others the channel is lost."""
        if self.failure is not None:
            return
        self.failure = error
        asked, self._asked = self._asked, deque()
        for name, _, answer in asked:
            if not answer.done():
                answer.set_exception(self.error(name))
                answer.exception()  # who has gone away does not miss it
        self.confirms.fail(self.error("basic.publish"))
        for consumer, _ in self._consumers.values():
            consumer.fail(self.error)
        self._consumers.clear()
        self.held.tags.clear()

    def end(self, error: MotetError) -> None:
        """Close it from our side, without waiting; its number is free when the broker has answered."""
        self.lost(error)
        self.connection.send(encode(self.number, "channel.close", 200, "done", 0, 0))
        self.connection.channels[self.number] = Closing(self.connection, self.number)

    def error(self, asked: str = "") -> MotetError:
        """Say why it is dead, to somebody who waits for the answer to something."""
        failure = self.failure
        assert failure is not None
        if isinstance(failure, MotetError):
            return type(failure)(*failure.args)
        if not isinstance(failure, Refusal):
            return Lost(*translate(failure, self.place).args)
        if failure.method in [METHODS[name][:2] for name in BLAMED.get(asked, (asked,)) if name]:
            return translate(failure, self.place)
        return Lost(f"{self.place}: the channel was closed by the broker: {failure.said[:300]}")


class Closing:
    """Waits for the broker's word that a channel is closed; until then its number is not to be used."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number

    def method(self, payload: bytes) -> None:
        """Take the answer, or a refusal that crossed our goodbye."""
        name = decode(payload).name
        if name == "channel.close":
            self.connection.send(encode(self.number, "channel.close-ok"))
        if name == "channel.close-ok":
            self.connection.leave(self.number)

    def header(self, payload: bytes) -> None:
        """Not for anybody."""

    def body(self, payload: bytes) -> None:
        """Not for anybody."""

    def lost(self, error: BaseException) -> None:
        """Nobody waits."""
