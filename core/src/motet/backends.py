"""Finding the adapter for a URL: through the entry-point group `motet.backends`, ours like anybody's."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from typing import cast
from urllib.parse import urlsplit

from motet.errors import BadBackend
from motet.ports import Backend, Opener, Settings

__all__ = ["GROUP", "masked", "open_backend"]

GROUP = "motet.backends"

DISTS = {
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "nats": "nats",
    "tls": "nats",
    "sqlite": "sqlite",
}


def open_backend(url: str, settings: Settings) -> AbstractAsyncContextManager[Backend]:
    """Return the backend of a URL, to be entered.

    Raises:
        BadBackend: The URL has no scheme, one that nobody serves, or one whose adapter is not installed.
    """
    scheme = urlsplit(url).scheme
    if not scheme or "://" not in url:
        raise BadBackend(f"{masked(url)!r} is no backend URL: write sqlite:///motet.db, redis://host, memory://, ...")
    found = entry_points(group=GROUP, name=scheme)
    if not found:
        raise BadBackend(_missing(scheme))
    opener = cast("Opener", next(iter(found)).load())
    return opener(url, settings)


def _missing(scheme: str) -> str:
    if extra := DISTS.get(scheme):
        return f"{scheme}:// needs an adapter that is not installed: pip install 'motet[{extra}]'"
    known = sorted({point.name for point in entry_points(group=GROUP)} | set(DISTS))
    return f"no backend serves {scheme}://; there are {', '.join(f'{each}://' for each in known)}"


def masked(url: str) -> str:
    """Write a URL without its password, for logs and errors."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:***@{host}").geturl()
