"""Where the brokers are, and who we are to them: what a URL says."""

from __future__ import annotations

import re
import ssl
from urllib.parse import parse_qs, unquote

import attrs

from motet.errors import BadBackend

__all__ = ["Address", "Location", "locate"]

Address = tuple[str, int]

PORTS = {"amqp": 5672, "amqps": 5671}
KNOWN = frozenset({"ca", "cert", "consumer_timeout", "heartbeat", "key", "shards"})
ADDRESS = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
SHORTEST, GREATEST = 1, 3600
"""Seconds of a heartbeat."""
MOST_SHARDS = 256
YEAR = 366 * 86400


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
    secure: bool = False
    ca: str = ""
    pair: tuple[str, str] = ("", "")
    shards: int = 8
    """How many queues keep what runs; all who share a namespace must say the same."""
    consumer_timeout: int = 1800
    """Seconds, as the broker's configuration says: what is held for a third of it is kept elsewhere."""

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
    name = _named(url)
    scheme, _, rest = url.partition("://")
    rest, _, asked = rest.partition("?")
    netloc, _, path = rest.partition("/")
    try:
        query = {each: values[-1] for each, values in parse_qs(asked, strict_parsing=bool(asked)).items()}
    except ValueError as error:
        raise BadBackend(f"{name!r}: {error}") from error
    if scheme not in PORTS:
        raise BadBackend(f"{name!r}: write amqp://host:5672/vhost or amqps://host:5671/vhost")
    if unknown := query.keys() - KNOWN:
        raise BadBackend(f"{name!r}: there is no {', '.join(sorted(unknown))}; known are {', '.join(sorted(KNOWN))}")
    secure = scheme == "amqps"
    if not secure and (given := query.keys() & {"ca", "cert", "key"}):
        raise BadBackend(f"{name!r}: {', '.join(sorted(given))} is for TLS: write amqps://")
    if bool(query.get("cert")) != bool(query.get("key")):
        raise BadBackend(f"{name!r}: cert and key go together")
    credentials, _, hosts = netloc.rpartition("@")
    user, colon, password = credentials.partition(":")
    if credentials and not colon:
        raise BadBackend(f"{name!r}: a user needs a password: write amqp://user:password@host")
    port = PORTS[scheme]
    return Location(
        name,
        tuple(_address(each, port, name) for each in hosts.split(",") if each) or (("localhost", port),),
        unquote(user) if credentials else "guest",
        unquote(password) if credentials else "guest",
        _vhost(path, name),
        _heartbeat(query.get("heartbeat", "10"), name),
        secure,
        query.get("ca", ""),
        (query.get("cert", ""), query.get("key", "")),
        _number(query.get("shards", "8"), "shards", MOST_SHARDS, name),
        _number(query.get("consumer_timeout", "1800"), "consumer_timeout", YEAR, name),
    )


def _named(url: str) -> str:
    """Return the URL without its password; several IPv6 addresses are not what urllib takes for one."""
    from motet.backends import masked

    try:
        return masked(url)
    except ValueError:
        return url.partition("://")[0] + "://..."


def _vhost(path: str, name: str) -> str:
    """Read the path: nothing is the vhost `/`, as everybody writes it, and so is `%2F`."""
    if "/" in path:
        raise BadBackend(f"{name!r}: one vhost, whose slashes are written %2F")
    return unquote(path) or "/"


def _heartbeat(text: str, name: str) -> int:
    if not text.isdecimal() or not SHORTEST <= int(text) <= GREATEST:
        raise BadBackend(f"{name!r}: a heartbeat is {SHORTEST} to {GREATEST} seconds")
    return int(text)


def _number(text: str, what: str, most: int, name: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise BadBackend(f"{name!r}: {what} is a number from 1 to {most:,}")
    return int(text)


def _address(text: str, port: int, name: str) -> Address:
    found = ADDRESS.fullmatch(text)
    number = int(found[2] or port) if found else 0
    if found is None or not 0 < number < 65536:
        raise BadBackend(f"{name!r}: {text} is no host:port")
    return found[1].strip("[]"), number
