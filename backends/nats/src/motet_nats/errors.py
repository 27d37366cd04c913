"""What the driver's and the server's errors mean to a caller: one table. No exception of nats-py crosses a port."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Container, Iterable

from nats import errors

from motet.errors import BackendError, MotetError, Rejected, Unavailable

__all__ = ["BROKEN", "BUSY", "LEADERLESS", "MISMATCH", "MISSING", "Mismatch", "ServerError", "refuse", "translate"]

BROKEN = (errors.Error, OSError, EOFError, asyncio.TimeoutError)
"""What ends a connection, or an attempt at one. What was asked on it may or may not have been done."""

TABLE: dict[type[BaseException], tuple[type[BackendError], str]] = {
    errors.AuthorizationError: (Rejected, "wrong user, password, token or key: correct the URL"),
    errors.MaxPayloadError: (Rejected, "more than the server takes in one message: raise `max_payload` there"),
    errors.SecureConnRequiredError: (Rejected, "the server wants TLS: write tls://"),
    errors.SecureConnWantedError: (Rejected, "the server does not speak TLS: write nats://"),
    errors.SecureConnFailedError: (Rejected, "TLS failed"),
    ssl.SSLError: (Rejected, "TLS failed: name who is trusted by ?ca=/path/ca.pem"),
    errors.NoServersError: (Unavailable, "no connection"),
    errors.StaleConnectionError: (Unavailable, "the server has fallen silent"),
    errors.NoRespondersError: (Unavailable, "nobody serves JetStream here: start the server with -js, or wait for it"),
    asyncio.TimeoutError: (Unavailable, "no answer in time"),
    OSError: (Unavailable, "no connection"),
    EOFError: (Unavailable, "the connection was closed"),
    errors.Error: (Unavailable, "the connection failed"),
}

WORDS: dict[str, tuple[type[BackendError], str]] = {
    "authorization violation": TABLE[errors.AuthorizationError],
    "authentication": TABLE[errors.AuthorizationError],
    "permissions violation": (
        Rejected,
        "this user may not do that: its publishes and subscriptions need what README.md of motet-nats lists",
    ),
    "tls": (Rejected, "TLS failed: tls:// is for a server that speaks TLS, with a certificate that is trusted"),
    "nkeys": (Rejected, "keys need another package: pip install 'motet-nats[nkeys]'"),
}
"""What a message has in it where nats-py has no class."""

LEADERLESS = 10008
CODES: dict[int, tuple[type[BackendError], str]] = {
    10023: (Unavailable, "the server has no room for more: raise its limits of JetStream, or let workers empty queues"),
    10026: (
        Rejected,
        "the server allows no more consumers, and each lane needs one: raise its limit, or use fewer queues",
    ),
    10028: (Unavailable, "the account has no room for more: raise its limits of JetStream"),
    10047: (
        Unavailable,
        "the server has no disk left for JetStream: raise `max_file_store`",
    ),
    10039: (Rejected, "JetStream is not enabled for this account"),
    10076: (Rejected, "JetStream is not enabled: start the server with -js"),
    10052: (Rejected, "the server does not take this configuration of a stream"),
    10065: (Rejected, "somebody else's stream has our subjects: choose another namespace"),
    10054: (Rejected, "more than the server takes in one message: raise `max_payload` there"),
    10058: (Rejected, "somebody else's stream has our name: choose another namespace"),
    10077: (Unavailable, "the stream is full: somebody has set limits on it, remove them"),
    LEADERLESS: (Unavailable, "the cluster has no leader at the moment"),
    10009: (Unavailable, "the cluster has no leader at the moment"),
    10005: (Rejected, "the cluster has fewer servers than replicas are asked for: lower ?replicas="),
    10074: (Rejected, "the server is alone: replicas need a cluster"),
    10118: (Unavailable, "the servers that keep the stream are all away: start them"),
    10119: (Unavailable, "the servers that keep the lane are all away: start them"),
    10158: (Unavailable, "the cluster has not agreed yet on what it was asked before"),
    10164: (Unavailable, "the cluster has not agreed yet on what it was asked before"),
    10167: (Unavailable, "the server has too much to do"),
}
"""What the server answers, by the code that it gives."""

BUSY = frozenset({LEADERLESS, 10009, 10118, 10119, 10158, 10164, 10167})
"""Answers after which the same is asked again: nothing was done of it, or it is being done, and soon more is known.

10158 is for a repetition of ours while the followers have not confirmed the first one.
"""
MISMATCH = frozenset({10071, 10164})
MISSING = frozenset({10037, 10014, 10057, 10043})
"""There is no such message, consumer or sequence."""


class ServerError(Exception):
    """An answer that refuses. It is translated before it leaves a port."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"{said} ({code})")
        self.code = code


class Mismatch(ServerError):
    """A publish was refused, because the subject was written since; `last` is the sequence of that."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(code, said)
        digits = said.rpartition(":")[2].strip()
        self.last: int = int(digits) if digits.isdecimal() else -1


def refuse(answers: Iterable[object], place: str, *, but: Container[int] = MISMATCH) -> None:
    """Raise the first of several answers that refuses, unless its code is one of those that are no failure.

    Raises:
        MotetError: It was refused, or there was no answer.
    """
    for answer in answers:
        if isinstance(answer, MotetError):
            raise answer
        if isinstance(answer, ServerError) and answer.code not in but:
            raise translate(answer, place)


def translate(error: BaseException, place: str) -> MotetError:
    """Return what to raise in place of an error; the original becomes its cause."""
    if isinstance(error, MotetError):
        return error
    said = str(error)
    if isinstance(error, ServerError):
        kind, advice = CODES.get(error.code, (Rejected, "the server refused"))
    else:
        lower = said.lower()
        known: list[tuple[type[BackendError], str]] = [found for word, found in WORDS.items() if word in lower]
        known += [TABLE[each] for each in type(error).__mro__ if each in TABLE]
        known.append((Rejected, "it failed"))
        kind, advice = known[0]
    ours: MotetError = kind(f"{place}: {advice} ({type(error).__name__}: {said[:300]})")
    ours.__cause__ = error
    return ours
