"""What a server answers: where something was stored, if it was, or why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from motet_nats.connection import Message
from motet_nats.errors import LEADERLESS, MISMATCH, Mismatch, ServerError

__all__ = ["Burst", "read_answer", "stored_at"]

UNAVAILABLE = 503


class Burst:
    """Questions that were sent as one, and the answers that have come; None where there is none yet."""

    __slots__ = ("answers", "done", "left", "since")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.answers: list[Message | None] = [None] * count
        self.left: int = count
        self.since: float = loop.time()
        self.done: asyncio.Future[None] = loop.create_future()

    def take(self, place: int, message: Message) -> None:
        """Take an answer."""
        if self.answers[place] is None:
            self.answers[place] = message
            self.left -= 1
            if not self.left and not self.done.done():
                self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Let nobody wait for what has not come."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # whoever has gone away does not miss it


class Refusal(msgspec.Struct):
    """Why a server has not done what it was asked."""

    err_code: int = 0
    description: str = ""
    code: int = 0


class Done(msgspec.Struct):
    """Most answers."""

    seq: int = 0
    error: Refusal | None = None


_done: Callable[[bytes], Done] = msgspec.json.Decoder(Done).decode
_decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode


def stored_at(message: Message) -> int:
    """Read where something was stored; 0 where nothing was to be.

    Raises:
        ServerError: It was refused.
    """
    done = _done(message.data)
    if done.error is not None:
        raise _refused(done.error)
    return done.seq


def read_answer(message: Message) -> dict[str, Any]:
    """Read all of an answer.

    Raises:
        ServerError: It was refused.
    """
    answer = _decode(message.data)
    if (error := answer.get("error")) is not None:
        raise _refused(msgspec.convert(error, Refusal))
    return answer


def _refused(told: Refusal) -> ServerError:
    code = told.err_code
    if not code and told.code == UNAVAILABLE:
        code = LEADERLESS  # "raft: not leader": whoever led a moment ago says so with no code of JetStream's
    return (Mismatch if code in MISMATCH else ServerError)(code, told.description)
