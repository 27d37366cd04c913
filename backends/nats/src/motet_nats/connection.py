"""nats-py's connection, read and written our way: each message goes straight to the handler of its subscription.

nats-py has a queue and a task for each subscription, which cost as much as all the rest of reading, and which it leaves
behind when a server dies while it is being written to. Connecting, TLS, keys, pings and flushing are its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, MaxPayloadError, ProtocolError, SecureConnWantedError

__all__ = ["Connection", "Message", "Question", "Secret"]

LINE = 4096
"""Bytes of a line of the protocol, at most; but what a server says of itself has no limit."""


MOMENT = 0.001
"""Seconds that what can wait is kept back for, so that it is written with something else."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """What came to a subscription. `head` are its headers as they came."""

    subject: str
    reply: str
    data: bytes
    head: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, and the status that a server gives in place of data."""
        first, *lines = self.head.decode("utf-8", "surrogateescape").split("\r\n")
        found = {"Status": first[9:12]} if len(first) > 9 else {}
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                found[name] = value.strip()
        return found


class Question(msgspec.Struct, frozen=True, gc=False):
    """What a server is asked, and answers once."""

    subject: str
    payload: bytes = b""
    lines: str = ""
    """Its headers, each with the end of its line."""


Handler = Callable[[Message], None]


class Connection(Client):
    """A connection whose messages are handled while they are read."""

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, Handler] = {}
        self._ps: Any = Reader(self)
        self._mentioned = False

    async def listen(self, subject: str, handler: Handler) -> int:
        """Have a handler called for whatever comes to a subject, and return what to end that by."""
        self._sid += 1
        self._handlers[self._sid] = handler
        await self._send_command(f"SUB {subject} {self._sid}\r\n".encode())
        await self._flush()
        return self._sid

    async def ignore(self, number: int) -> None:
        """End a subscription."""
        if self._handlers.pop(number, None) is not None and self.is_connected:
            await self._mention(f"UNSUB {number}\r\n".encode())

    async def post(self, questions: Sequence[Question], reply: str, *, last: bool = False) -> None:
        """Publish all as one write; the answer to each, or only to the `last`, goes to `reply` and its place.

        Names and values come from us, and need no look.

        Raises:
            ConnectionClosedError: It is closed.
            MaxPayloadError: It is more than the server takes.
        """
        if self.is_closed:
            raise ConnectionClosedError
        silent = len(questions) - 1 if last else 0
        for place, each in enumerate(questions):
            if len(each.payload) > self.max_payload:
                raise MaxPayloadError
            await self._send_command(published(each, "" if place < silent else f"{reply}{place - silent}"))
        await self._flush()

    async def tell(self, subject: str, data: bytes, reply: str, *, hurry: bool = True) -> None:
        """Publish something to which not one answer comes, but none or many.

        Raises:
            ConnectionClosedError: It is closed.
        """
        if self.is_closed:
            raise ConnectionClosedError
        words = published(Question(subject, data), reply)
        if hurry:
            await self._send_command(words)
            await self._flush()
        else:
            await self._mention(words)

    async def _mention(self, words: bytes) -> None:
        """Say it with what is said next, or alone in a moment: to write takes longer than anything else here."""
        await self._send_command(words)
        if not self._mentioned:
            self._mentioned = True
            asyncio.get_running_loop().call_later(MOMENT, self._remember)

    async def caught_up(self, timeout: int) -> None:
        """Return when the server has done all that it was told before.

        nats-py writes its question past what is pending, which is therefore written first.
        """
        if not self._write():
            await self._flush_pending(force_flush=True)
        await self.flush(timeout)

    def _remember(self) -> None:
        """Say what was mentioned, if nothing else was said meanwhile."""
        if not self._write() and self.is_connected:
            self._mentioned = True
            asyncio.get_running_loop().call_later(MOMENT, self._remember)

    async def _flush(self) -> None:
        """Write what is pending: at once, unless something is on its way, for which nats-py's own task waits."""
        if not self._write() and self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def _write(self) -> bool:
        self._mentioned = False
        writer = self._writer()
        if writer is None or not self.is_connected or writer.is_closing() or writer.transport.get_write_buffer_size():
            return False
        if self._pending:
            words, self._pending, self._pending_data_size = self._pending, [], 0
            writer.write(b"".join(words))
        return True

    def _writer(self) -> Any:
        return getattr(self._transport, "_io_writer", None)

    def read_straight(self) -> None:
        """Handle messages in the turn of the loop in which they come; nats-py would wake a task of its own for them."""
        writer = self._writer()
        if writer is None:
            return
        transport, reader = writer.transport, Reader(self)
        reader.rest, self._ps.rest = self._ps.rest, b""
        transport.set_protocol(Straight(reader, transport.get_protocol()))

    def take(self, number: int, message: Message) -> None:
        """Hand a message over."""
        handler = self._handlers.get(number)
        if handler is not None:
            handler(message)

    async def hear(self, line: bytes) -> None:
        """Do what nats-py does about a line that brings no message.

        Raises:
            ProtocolError: It is no NATS.
        """
        word = line[:4].upper()
        if word == b"PING":
            await self._process_ping()
        elif word == b"PONG":
            pongs: list[asyncio.Future[bool]] = getattr(self, "_pongs", [])
            if pongs and pongs[0].done():
                pongs[0] = asyncio.get_running_loop().create_future()  # nats-py fails when who waited has gone
            await self._process_pong()
        elif word == b"INFO":
            await self._process_info(msgspec.json.decode(line[5:]))
        elif word == b"-ERR":
            await self._process_err(line[5:].decode(errors="replace").strip().lower())
        elif word[:3] != b"+OK" and line:
            raise ProtocolError

    def watch(self, ended: Callable[[BaseException | None], None]) -> None:
        """Have it told when one of the tasks ends without which nothing moves, whatever the reason.

        nats-py closes a connection now and then without a word, for one when it cannot flush while it closes.
        """

        def end(task: asyncio.Task[Any]) -> None:
            ended(None if task.cancelled() else task.exception())

        for task in self._tasks():
            task.add_done_callback(end)

    def _tasks(self) -> list[asyncio.Task[Any]]:
        found: list[Any] = [getattr(self, f"_{name}_task") for name in ("reading", "flusher", "ping_interval")]
        return [task for task in found if task is not None]

    def abort(self) -> None:
        """Close the socket: nats-py leaves it open when it is stopped on its way, or the other side is silent."""
        self._handlers.clear()
        for task in self._tasks():
            task.cancel()
        writer = getattr(self._transport, "_bare_io_writer", None)
        if writer is not None:
            writer.transport.abort()


def published(question: Question, reply: str) -> bytes:
    """Write it as NATS has it."""
    size = len(question.payload)
    to = f"{question.subject} {reply}" if reply else question.subject
    if not question.lines:
        return b"%b%b\r\n" % (f"PUB {to} {size}\r\n".encode(), question.payload)
    head = len(question.lines) + 12  # all of it is ASCII
    start = f"HPUB {to} {head} {head + size}\r\nNATS/1.0\r\n{question.lines}\r\n"
    return b"%b%b\r\n" % (start.encode(), question.payload)


class Secret(Connection):
    """A connection that sends no password, nor anything else, to a server that does not speak TLS.

    nats-py would go on in the clear when a server, or whoever stands between, does not ask for TLS.
    """

    def _connect_command(self) -> bytes:
        if not self._server_info.get("tls_required"):
            raise SecureConnWantedError
        command: bytes = super()._connect_command()
        return command


class Reader:
    """Cuts what comes into messages, and into what nats-py has to know."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rest: bytes = b""

    def reset(self) -> None:
        """Forget the beginning of what did not come whole."""
        self.rest = b""

    async def parse(self, data: bytes = b"") -> None:
        """Handle what came.

        Raises:
            ProtocolError: It is no NATS.
        """
        for line in self.cut(data):
            await self.connection.hear(line)
        if len(self.rest) > LINE and self.rest.find(b"\r\n", 0, LINE) < 0 and not self.rest.startswith(b"INFO"):
            raise ProtocolError

    def cut(self, data: bytes) -> list[bytes]:
        """Hand over the messages that came, and return the other lines."""
        came = self.rest + data if self.rest else bytes(data)
        others: list[bytes] = []
        at = 0
        while (end := came.find(b"\r\n", at)) >= 0:
            if came.startswith((b"MSG ", b"HMSG "), at):
                after = self._message(came, at, end + 2)
                if not after:
                    break
                at = after
            else:
                others.append(came[at:end])
                at = end + 2
        self.rest = came[at:]
        return others

    def _message(self, came: bytes, at: int, begin: int) -> int:
        """Hand over the message that begins there, and say where it ends; 0 when it is not here whole."""
        words = came[at:begin].split()
        size = int(words[-1])
        stop = begin + size
        if len(came) < stop + 2:
            return 0
        headed = words[0] == b"HMSG"
        body = begin + int(words[-2]) if headed else begin
        reply = words[3].decode() if len(words) == (6 if headed else 5) else ""
        message = Message(words[1].decode(), reply, came[body:stop], came[begin:body])
        self.connection.take(int(words[2]), message)
        return stop + 2


class Straight(asyncio.Protocol):
    """Takes messages out of what comes, and leaves the rest to nats-py's stream."""

    def __init__(self, reader: Reader, stream: asyncio.Protocol) -> None:
        self.reader = reader
        self.stream = stream

    def data_received(self, data: bytes) -> None:
        for line in self.reader.cut(data):
            self.stream.data_received(line + b"\r\n")
        if len(self.reader.rest) > LINE and not self.reader.rest.startswith((b"MSG ", b"HMSG ")):
            rest, self.reader.rest = self.reader.rest, b""
            self.stream.data_received(rest)

    def eof_received(self) -> bool | None:
        return self.stream.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stream.connection_lost(exc)

    def pause_writing(self) -> None:
        self.stream.pause_writing()

    def resume_writing(self) -> None:
        self.stream.resume_writing()
