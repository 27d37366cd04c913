"""What the broker's refusals and the system's errors mean to a caller: one table. No other exception crosses a port."""

from __future__ import annotations

import asyncio
import re
import ssl

from motet.errors import BackendError, MotetError, NotSerializable, Rejected, TooLarge, Unavailable

__all__ = [
    "BROKEN",
    "BackendFull",
    "Blocked",
    "ConsumerGone",
    "Foreign",
    "HungUp",
    "Locked",
    "Lost",
    "Missing",
    "Nacked",
    "NotAmqp",
    "Refusal",
    "Unroutable",
    "translate",
]


class Refusal(Exception):
    """What the broker said when it closed a channel or a connection. It is translated before it leaves the wire."""

    def __init__(self, code: int, said: str, method: tuple[int, int] = (0, 0)) -> None:
        super().__init__(f"{said} ({code})")
        self.code = code
        self.said = said
        self.method = method
        """Class and number of the method that it refused; zeros when there was none."""


class NotAmqp(Exception):
    """What came is not AMQP 0-9-1. It is translated before it leaves the wire."""


class HungUp(EOFError):
    """The other side closed the connection instead of a greeting. It is translated before it leaves the wire."""


class Lost(Unavailable):
    """Raised when a channel or its connection ended. Deliveries held on it come again; what it was told may be done."""


class ConsumerGone(Unavailable):
    """Raised when the broker ended a consumer: its queue was deleted, or has moved. Declare it, and consume again."""


class Blocked(Unavailable):
    """Raised when the broker takes no messages because its memory or disk is short. It says which."""


class Nacked(Unavailable):
    """Raised when a queue refused messages: it is full, has failed, or is only just being made."""


class Missing(Rejected):
    """Raised when there is no such queue or exchange (404). Declare it first."""


class Foreign(Rejected):
    """Raised when a queue or exchange is not as ours must be (406): it says which, and what differs."""


class Locked(Rejected):
    """Raised when a queue belongs to another connection alone (405, 403)."""


class Unroutable(Unavailable):
    """Raised when a mandatory message had no queue to go to; `keys` are (exchange, routing key) of what came back.

    The other messages of the same publish are stored. Declare the target, and publish again; a stream is unroutable for
    a moment after a restart of the broker too.
    """

    def __init__(self, keys: tuple[tuple[str, str], ...]) -> None:
        self.keys = keys
        super().__init__(keys)

    def __str__(self) -> str:
        first = ", ".join(f"{key!r} of the exchange {exchange!r}" for exchange, key in self.keys[:3])
        return f"no queue is bound for {first}: declare it, then publish again"


BROKEN = (Refusal, NotAmqp, OSError, EOFError, asyncio.TimeoutError)
"""What ends a connection, or an attempt at one. What was asked on it may or may not have been done."""

SAID: tuple[tuple[str, type[BackendError], str], ...] = (
    ("access_refused - login", Rejected, "wrong user or password: correct the URL"),
    ("can only connect via localhost", Rejected, "`guest` is let in from the broker's own machine only: make a user"),
    ("access to vhost", Rejected, "the user may not use this vhost: `rabbitmqctl set_permissions -p VHOST USER ...`"),
    ("exclusive", Locked, "it belongs to another connection, or another consumer, alone"),
    ("is down", Unavailable, "the vhost is not up (yet)"),
    (
        "inequivalent arg",
        Foreign,
        "it was made by somebody else: delete it when it is empty, or choose another namespace",
    ),
    ("not empty", Foreign, "it is not empty"),
    ("in use", Foreign, "it is in use"),
    ("acknowledgement", Lost, "held for longer than the broker allows: raise its `consumer_timeout`"),
    ("unknown delivery tag", Lost, "settled twice, or on another channel"),
)
"""What a refusal has in it, for those whose code says less."""

CODES: dict[int, tuple[type[BackendError], str]] = {
    311: (Rejected, "more than the broker takes in one message: raise its `max_message_size`"),
    320: (Lost, "the broker is shutting down, or somebody closed the connection"),
    403: (Rejected, "the user may not do that: it needs configure, write and read on what Motet makes"),
    404: (Missing, "declare it first"),
    405: (Locked, "it belongs to another connection alone"),
    406: (Foreign, "it is not as ours must be"),
    501: (Lost, "the broker could not read us"),
    504: (Lost, "a channel that is not open"),
    506: (Unavailable, "the broker has no room for more: see its limits of connections, channels and queues"),
    530: (Rejected, "no such vhost, or a limit of it: `rabbitmqctl add_vhost NAME`, or correct the URL"),
    540: (Rejected, "this broker cannot do that"),
    541: (Unavailable, "the broker failed; its log says why"),
}
"""What the broker answers, by its code."""

TABLE: dict[type[BaseException], tuple[type[BackendError], str]] = {
    ssl.SSLCertVerificationError: (Rejected, "TLS: the certificate is not trusted; name who is by ?ca=/path/ca.pem"),
    ssl.SSLError: (Rejected, "TLS failed: amqps:// is for a port that speaks TLS, by default 5671"),
    NotAmqp: (Rejected, "no AMQP 0-9-1 is spoken there: correct the port, or write amqps:// for TLS"),
    asyncio.TimeoutError: (Unavailable, "no answer in time"),
    HungUp: (Unavailable, "it hung up instead of a greeting: it is starting, or wants TLS, for which write amqps://"),
    OSError: (Unavailable, "no connection"),
    EOFError: (Lost, "the connection was closed"),
}

SIZES = re.compile(r"message size (\d+) .*?(\d+)")


def translate(error: BaseException, place: str) -> MotetError:
    """Return what to raise in place of an error; the original becomes its cause."""
    if isinstance(error, MotetError):
        return error
    ours = _translated(error, place)
    ours.__cause__ = error
    return ours


def _translated(error: BaseException, place: str) -> MotetError:
    if isinstance(error, Refusal):
        if sizes := SIZES.search(error.said):
            return TooLarge("a message to RabbitMQ", int(sizes[1]), int(sizes[2]))
        lower = error.said.lower()
        default = CODES.get(error.code, (Rejected, "the broker refused"))
        kind, advice = next(((kind, advice) for word, kind, advice in SAID if word in lower), default)
        return kind(f"{place}: {error.said[:300]}: {advice}")
    if isinstance(error, TypeError | ValueError) and not isinstance(error, ssl.SSLError):
        return NotSerializable("a message to RabbitMQ", str(error))
    kind, advice = next((TABLE[each] for each in type(error).__mro__ if each in TABLE), (Rejected, "it failed"))
    return kind(f"{place}: {advice} ({type(error).__name__}: {str(error)[:300]})")


class BackendFull(Unavailable):
    """Raised when a shard keeps as much as it may: 64 MiB of what runs, waits and is locked. Nothing was done.

    Let runs end, or sweep them; parcels far in the future and dead letters count too. More shards hold more.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(size)

    def __str__(self) -> str:
        return f"a shard keeps {self.size:,} bytes, which is more than it may: let runs end, or use more shards"
