"""Where the servers are, and who we are to them: what a URL says."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from motet.errors import BadBackend

__all__ = ["Location", "locate"]

PORT = 4222
KNOWN = frozenset({"creds", "nkey", "ca", "cert", "key", "replicas"})


@attrs.define
class Location:
    """How to connect, and to whom."""

    name: str
    """The URL without its password, for errors and logs."""
    servers: list[str]
    options: dict[str, Any]
    replicas: int = 1
    secure: bool = False
    ca: str = ""
    pair: tuple[str, str] = ("", "")

    def tls(self) -> ssl.SSLContext | None:
        """Who is trusted, and who we are; None when the server decides whether there is TLS."""
        if not self.secure:
            return None
        context = ssl.create_default_context(cafile=self.ca or None)
        if self.pair[0]:
            context.load_cert_chain(*self.pair)
        return context


def locate(url: str) -> Location:
    """Read a URL: `nats://user:password@host:4222,host:4222?replicas=3`, or `tls://`.

    Raises:
        BadBackend: It names no server, or says what we do not know.
    """
    from motet.backends import masked

    parts = urlsplit(url)
    name = masked(url)
    if parts.scheme not in ("nats", "tls"):
        raise BadBackend(f"{name!r}: write nats://host:4222 or tls://host:4222")
    try:
        query = {each: values[-1] for each, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    except ValueError as error:
        raise BadBackend(f"{name!r}: {error}") from error
    if unknown := query.keys() - KNOWN or parts.path.strip("/"):
        raise BadBackend(f"{name!r}: there is no {', '.join(unknown)}; known are {', '.join(sorted(KNOWN))}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    servers = [f"{parts.scheme}://{_address(each, name)}" for each in hosts.split(",") if each]
    options: dict[str, Any] = {}
    user, colon, password = credentials.partition(":")
    if colon:
        options |= {"user": unquote(user), "password": unquote(password)}
    elif user:
        options["token"] = unquote(user)
    if "creds" in query:
        options["user_credentials"] = query["creds"]
    if "nkey" in query:
        options["nkeys_seed"] = query["nkey"]
    replicas = query.get("replicas", "1")
    if not replicas.isdecimal() or not 1 <= int(replicas) <= 5:
        raise BadBackend(f"{name!r}: replicas are 1 to 5")
    secure = parts.scheme == "tls" or "ca" in query
    pair = query.get("cert", ""), query.get("key", "")
    return Location(
        name,
        servers or [f"{parts.scheme}://localhost:{PORT}"],
        options,
        int(replicas),
        secure,
        query.get("ca", ""),
        pair,
    )


def _address(text: str, name: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        return f"{text}:{PORT}"
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadBackend(f"{name!r}: {text} is no host:port")
    return text
