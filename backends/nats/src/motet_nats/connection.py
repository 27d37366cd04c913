"""nats-py's connection, read and written our way: each message goes straight to the handler of its subscription.

nats-py has a queue and a task for each subscription, which cost as much as all the rest of reading, and which it leaves
behind when a server dies while it is being written to. Connecting, TLS, keys, pings and flushing are its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, MaxPayloadError, ProtocolError, SecureConnWantedError

__all__ = ["Connection", "Message", "Secret"]

LINE = 4096
"""Bytes of a line of the protocol, at most; but what a server says of itself has no limit."""


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


Handler = Callable[[Message], None]


class Connection(Client):
    """A connection whose messages are handled while they are read."""

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, Handler] = {}
        self._ps: Any = Reader(self)

    async def listen(self, subject: str, handler: Handler) -> int:
        """Have a handler called for whatever comes to a subject, and return what to end that by."""
        self._sid += 1
        self._handlers[self._sid] = handler
        await self._say(f"SUB {subject} {self._sid}\r\n".encode())
        return self._sid

    async def ignore(self, number: int) -> None:
        """End a subscription."""
        if self._handlers.pop(number, None) is not None and self.is_connected:
            await self._say(f"UNSUB {number}\r\n".encode())

    async def post(self, subject: str, data: bytes, headers: dict[str, str] | None, reply: str) -> None:
        """Publish. Names and values come from us, and need no look.

        Raises:
            ConnectionClosedError: It is closed.
            MaxPayloadError: It is more than the server takes.
        """
        if self.is_closed:
            raise ConnectionClosedError
        if len(data) > self.max_payload:
            raise MaxPayloadError
        if headers is None:
            await self._say(b"%b%d\r\n%b\r\n" % (f"PUB {subject} {reply} ".encode(), len(data), data))
            return
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"NATS/1.0\r\n{lines}\r\n".encode()
        start = f"HPUB {subject} {reply} {len(head)} {len(head) + len(data)}\r\n".encode()
        await self._say(b"%b%b%b\r\n" % (start, head, data))

    async def _say(self, words: bytes) -> None:
        await self._send_command(words)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

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
        came = self.rest + data if self.rest else bytes(data)
        at = 0
        while (end := came.find(b"\r\n", at)) >= 0:
            if came.startswith((b"MSG ", b"HMSG "), at):
                after = self._message(came, at, end + 2)
                if not after:
                    break
                at = after
            else:
                await self.connection.hear(came[at:end])
                at = end + 2
        self.rest = came[at:]
        if len(self.rest) > LINE and self.rest.find(b"\r\n", 0, LINE) < 0 and not self.rest.startswith(b"INFO"):
            raise ProtocolError

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
