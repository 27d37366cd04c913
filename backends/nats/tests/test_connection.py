"""What comes on a connection is cut into messages and lines, however it was cut on its way."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from motet import Unavailable
from motet_nats.answers import Burst
from motet_nats.connection import Connection, Message, Question, Reader, Straight, published
from motet_nats.link import Link
from motet_nats.location import locate
from motet_nats.names import Names, pending, sequence_of
from motet_nats.news import News
from motet_nats.wire import VERSION, Kept, pack

CAME = (
    b"PING\r\n"
    b"MSG in.a 1 5\r\nhello\r\n"
    b"MSG in.b 1 reply.to 0\r\n\r\n"
    b"+OK\r\n"
    b"HMSG in.c 2 reply.to 17 19\r\nNATS/1.0\r\nA:1\r\n\r\nhi\r\n"
    b"MSG in.d 1 12\r\n\r\nPING\r\nMSG \r\n"
    b"-ERR 'what'\r\n"
)
MESSAGES = [
    (1, Message("in.a", "", b"hello")),
    (1, Message("in.b", "reply.to", b"")),
    (2, Message("in.c", "reply.to", b"hi", b"NATS/1.0\r\nA:1\r\n\r\n")),
    (1, Message("in.d", "", b"\r\nPING\r\nMSG ")),
]
LINES = [b"PING\r\n", b"+OK\r\n", b"-ERR 'what'\r\n"]
KEPT = "motet.motet.k.o.run.o"


class Heard(Connection):
    """Notes what is handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[int, Message]] = []

    def take(self, number: int, message: Message) -> None:
        self.messages.append((number, message))


class Stream(asyncio.Protocol):
    """Notes what is left to nats-py."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.lines.append(data)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_messages_are_handed_over_and_all_else_is_left() -> None:
    for size in range(1, len(CAME) + 1):
        heard, stream = Heard(), Stream()
        straight = Straight(Reader(heard), stream)

        for at in range(0, len(CAME), size):
            straight.data_received(CAME[at : at + size])

        assert heard.messages == MESSAGES
        assert stream.lines == LINES


async def test_what_is_no_nats_is_left_to_who_ends_the_connection() -> None:
    heard, stream = Heard(), Stream()

    Straight(Reader(heard), stream).data_received(b"x" * 5000)

    assert b"".join(stream.lines) == b"x" * 5000


async def test_who_is_caught_up_with_has_said_all_before() -> None:
    """nats-py writes its question past what is pending: a subscription that came after it was one too late."""
    came: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id": "x", "version": "2.15.1", "max_payload": 1048576, "headers": true}\r\n')
        with suppress(ConnectionError):
            while line := await reader.readline():
                came.append(line)
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        link = await Link.open(locate(url), url, 5)
        await link.caught_up()
        before = len(came)
        await link.listen("news", lambda _: None)
        await link.caught_up()
        await link.close()

    said = came[before:]
    assert next(line for line in said if line.startswith((b"SUB", b"PING"))).startswith(b"SUB news ")


def test_a_question_is_written_as_nats_has_it() -> None:
    assert published(Question("to", b"12"), "") == b"PUB to 2\r\n12\r\n"
    assert published(Question("to", b"12"), "back") == b"PUB to back 2\r\n12\r\n"
    headed = published(Question("to", b"12", "A: 1\r\n"), "back")
    assert headed == b"HPUB to back 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\n12\r\n"


async def test_a_burst_is_over_when_there_is_an_answer_to_each() -> None:
    burst = Burst(2, asyncio.get_running_loop())
    first, second = Message("a", "", b"1"), Message("b", "", b"2")

    burst.take(1, second)
    burst.take(1, first)
    assert not burst.done.done()
    burst.take(0, first)

    await burst.done
    assert burst.answers == [first, second]


def test_a_receipt_tells_the_sequence_the_deliveries_and_what_is_behind() -> None:
    old, new = "$JS.ACK.stream.lane.2.70.9.17.5", "$JS.ACK.domain.account.stream.lane.2.70.9.17.5.token"

    assert [(sequence_of(each), pending(each)) for each in (old, new)] == [((70, 2), 5)] * 2
    assert (sequence_of("elsewhere"), pending("elsewhere")) == ((0, 0), 0)


class Asked:
    """A read that is answered when we say so."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.count = 0

    async def read(self) -> bytes | None:
        self.count += 1
        return await self.answer


def stored(value: bytes, **more: Any) -> bytes:
    return pack(Kept(VERSION, 0, value, **more))


async def test_what_was_told_of_a_run_is_not_asked_for_and_only_once() -> None:
    news, asked = News(Names("motet")), Asked()
    asked.answer.set_result(b"later")
    news.expect("run")
    news.tell("run", "o", stored(b"told"))

    assert await news.sooner(KEPT, asked.read) == b"told"
    assert asked.count == 0
    assert await news.sooner(KEPT, asked.read) == b"later"


async def test_what_is_told_while_it_is_read_is_taken() -> None:
    news, asked = News(Names("motet")), Asked()
    news.expect("run")
    reading = asyncio.ensure_future(news.sooner(KEPT, asked.read))
    await asyncio.sleep(0)
    news.tell("run", "o", stored(b"told"))

    assert await reading == b"told"
    assert not news.reading


async def test_what_was_sent_a_moment_ago_is_not_asked_for_before_it_was_told() -> None:
    news, asked = News(Names("motet")), Asked()
    news.send("run", asyncio.get_running_loop().time())
    news.expect("run")
    reading = asyncio.ensure_future(news.sooner(KEPT, asked.read))
    await asyncio.sleep(0)
    news.tell("run", "o", stored(b"told"))

    assert await reading == b"told"
    assert asked.count == 0


async def test_what_was_sent_a_moment_ago_and_is_not_told_is_asked_for() -> None:
    news, asked = News(Names("motet")), Asked()
    asked.answer.set_result(b"already")
    news.send("run", asyncio.get_running_loop().time())
    news.expect("run")

    assert await news.sooner(KEPT, asked.read) == b"already"


async def test_a_read_that_fails_fails() -> None:
    news, asked = News(Names("motet")), Asked()
    asked.answer.set_exception(Unavailable("no answer"))
    news.expect("run")

    with pytest.raises(Unavailable):
        await news.sooner(KEPT, asked.read)
    assert not news.reading


async def test_a_value_in_parts_is_read() -> None:
    news, asked = News(Names("motet")), Asked()
    asked.answer.set_result(b"whole")
    news.expect("run")
    news.tell("run", "o", stored(b"", parts=2, nonce="n"))

    assert await news.sooner(KEPT, asked.read) == b"whole"


async def test_nothing_is_kept_of_a_run_for_which_nobody_waits() -> None:
    news, asked = News(Names("motet")), Asked()
    asked.answer.set_result(None)
    news.expect("run")
    news.forget("run")
    news.tell("run", "o", stored(b"told"))

    assert await news.sooner(KEPT, asked.read) is None
    assert not news.told and not news.sure
