"""Where the brokers are, and who we are to them: what a URL says."""

from __future__ import annotations

import ssl
from typing import Literal

import attrs

__all__ = ["Address", "Handover", "Location", "locate"]

Address = tuple[str, int]
Handover = Literal["confirm", "tx"]


@attrs.frozen
class Location:
    """How to connect, and to whom."""

    name: str
    """The URL without its password, for errors and logs."""
    addresses: tuple[Address, ...]
    user: str = "guest"
    password: str = attrs.field(default="guest", repr=False)
    vhost: str = "/"
    heartbeat: float = 10.0
    """Seconds between signs of life; a side that is silent for twice as long is given up."""
    handover: Handover = "confirm"
    secure: bool = False
    ca: str = ""
    pair: tuple[str, str] = ("", "")

    def tls(self) -> ssl.SSLContext | None:
        """Who is trusted, and who we are; None without TLS."""
        raise NotImplementedError


def locate(url: str) -> Location:
    """Read a URL: `amqp://user:password@host:5672,host/vhost?heartbeat=10`, or `amqps://`.

    Raises:
        BadBackend: It names no server, or says what we do not know.
    """
    raise NotImplementedError
