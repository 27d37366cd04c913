"""What a server answers: where something was stored, if it was, or why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from motet_nats.connection import Message
from motet_nats.errors import MISMATCH, Mismatch, ServerError

__all__ = ["Question", "read_answer", "stored_at"]


class Question(msgspec.Struct, frozen=True, gc=False):
    """What a server is asked, and answers once."""

    subject: str
    payload: bytes
    headers: dict[str, str] | None = None


class Refusal(msgspec.Struct):
    """Why a server has not done what it was asked."""

    err_code: int = 0
    description: str = ""


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
        raise _refused(done.error.err_code, done.error.description)
    return done.seq


def read_answer(message: Message) -> dict[str, Any]:
    """Read all of an answer.

    Raises:
        ServerError: It was refused.
    """
    answer = _decode(message.data)
    if (error := answer.get("error")) is not None:
        raise _refused(int(error.get("err_code", 0)), str(error.get("description", "")))
    return answer


def _refused(code: int, said: str) -> ServerError:
    return (Mismatch if code in MISMATCH else ServerError)(code, said)
