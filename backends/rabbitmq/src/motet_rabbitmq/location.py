"""Where the brokers are, and who we are to them: what a URL says."""

from __future__ import annotations

import ssl
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from motet.errors import BadBackend

__all__ = ["Address", "Handover", "Location", "locate"]

Address = tuple[str, int]
Handover = Literal["confirm", "tx"]

PORTS = {"amqp": 5672, "amqps": 5671}
KNOWN = frozenset({"ca", "cert", "handover", "heartbeat", "key", "shards"})
SHORTEST, GREATEST = 1, 3600
"""Seconds of a heartbeat."""
MOST_SHARDS = 256


@attrs.frozen
class Location:
    """How to connect, and to whom."""

    name: str
    """The URL without its password, for errors and logs."""
    addresses: tuple[Address, ...]
    user: str = "guest"
    password: str = attrs.field(default="guest", repr=False)
    vhost: str = "/"
    heartbeat: int = 10
    """Seconds between signs of life; a side that is silent for twice as long is given up."""
    handover: Handover = "confirm"
    secure: bool = False
    ca: str = ""
    pair: tuple[str, str] = ("", "")
    shards: int = 8
    """How many queues keep what runs; all who share a namespace must say the same."""

    def tls(self) -> ssl.SSLContext | None:
        """Who is trusted, and who we are; None without TLS.

        Raises:
            OSError: A file is not there.
            SSLError: A file is no certificate or key.
        """
        if not self.secure:
            return None
        context = ssl.create_default_context(cafile=self.ca or None)
        if self.pair[0]:
            context.load_cert_chain(*self.pair)
        return context


def locate(url: str) -> Location:
    """Read a URL: `amqp://user:password@host:5672,host/vhost?heartbeat=10`, or `amqps://`.

    Raises:
        BadBackend: It names no server, or says what we do not know.
    """
    from motet.backends import masked

    name = masked(url)
    try:
        parts = urlsplit(url)
        query = {each: values[-1] for each, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    except ValueError as error:
        raise BadBackend(f"{name!r}: {error}") from error
    if parts.scheme not in PORTS:
        raise BadBackend(f"{name!r}: write amqp://host:5672/vhost or amqps://host:5671/vhost")
    if unknown := query.keys() - KNOWN:
        raise BadBackend(f"{name!r}: there is no {', '.join(sorted(unknown))}; known are {', '.join(sorted(KNOWN))}")
    secure = parts.scheme == "amqps"
    if not secure and (given := query.keys() & {"ca", "cert", "key"}):
        raise BadBackend(f"{name!r}: {', '.join(sorted(given))} is for TLS: write amqps://")
    if bool(query.get("cert")) != bool(query.get("key")):
        raise BadBackend(f"{name!r}: cert and key go together")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, colon, password = credentials.partition(":")
    if credentials and not colon:
        raise BadBackend(f"{name!r}: a user needs a password: write amqp://user:password@host")
    port = PORTS[parts.scheme]
    return Location(
        name,
        tuple(_address(each, port, name) for each in hosts.split(",") if each) or (("localhost", port),),
        unquote(user) if credentials else "guest",
        unquote(password) if credentials else "guest",
        _vhost(parts.path, name),
        _heartbeat(query.get("heartbeat", "10"), name),
        _handover(query.get("handover", "confirm"), name),
        secure,
        query.get("ca", ""),
        (query.get("cert", ""), query.get("key", "")),
        _shards(query.get("shards", "8"), name),
    )


def _vhost(path: str, name: str) -> str:
    """Read the path: nothing and `/` are the vhost `/`, as everybody writes it, and so is `/%2F`."""
    vhost = path.removeprefix("/")
    if "/" in vhost:
        raise BadBackend(f"{name!r}: one vhost, whose slashes are written %2F")
    return unquote(vhost) or "/"


def _heartbeat(text: str, name: str) -> int:
    if not text.isdecimal() or not SHORTEST <= int(text) <= GREATEST:
        raise BadBackend(f"{name!r}: a heartbeat is {SHORTEST} to {GREATEST} seconds")
    return int(text)


def _shards(text: str, name: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_SHARDS:
        raise BadBackend(f"{name!r}: shards are 1 to {MOST_SHARDS}")
    return int(text)


def _handover(text: str, name: str) -> Handover:
    match text:
        case "confirm" | "tx":
            return text
        case _:
            raise BadBackend(f"{name!r}: handover is confirm, which loses nothing, or tx")


def _address(text: str, port: int, name: str) -> Address:
    host, colon, number = text.rpartition(":")
    if not colon or "]" in number:
        host, number = text, str(port)
    if not host.strip("[]") or not number.isdecimal() or not 0 < int(number) < 65536:
        raise BadBackend(f"{name!r}: {text} is no host:port")
    return host.strip("[]"), int(number)
