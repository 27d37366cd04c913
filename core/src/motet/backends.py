"""Finding the adapter for a URL: through the entry-point group `motet.backends`, ours like anybody's."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, suppress
from importlib import import_module
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from motet import failpoints
from motet.errors import BadBackend, UsageError
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
        UsageError: `MOTET_FAILPOINTS` names a place that is neither core's nor this adapter's.
    """
    scheme = urlsplit(url).scheme
    if not scheme or "://" not in url:
        raise BadBackend(f"{masked(url)!r} is no backend URL: write sqlite:///motet.db, redis://host, memory://, ...")
    opener = _opener(scheme)
    if opener is None:
        raise BadBackend(_missing(scheme))
    if strangers := failpoints.unknown():
        raise UsageError(strangers)
    return opener(url, settings)


def _opener(scheme: str) -> Opener | None:
    """Load what an adapter declares for a scheme."""
    for name, place in _declared():
        if name == scheme:
            module, _, attribute = place.partition(":")
            return cast("Opener", getattr(import_module(module), attribute))
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group=GROUP, name=scheme)), None)
    return None if found is None else cast("Opener", found.load())


def _declared() -> Generator[tuple[str, str]]:
    """Read the declarations of dists that have `motet` in their name, as pip has written them.

    `importlib.metadata` finds the same, and every other dist's, but takes 40 ms of a worker's start: it imports what
    reads e-mail, and opens a file of each package there is.
    """
    for folder in sys.path:
        with suppress(OSError):
            for file in Path(folder).glob("*motet*.dist-info/entry_points.txt"):
                yield from _group(file.read_text(encoding="utf-8"))


def _group(text: str) -> Generator[tuple[str, str]]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == f"[{GROUP}]" and "=" in line:
            name, _, place = line.partition("=")
            yield name.strip(), place.strip()


def _missing(scheme: str) -> str:
    if extra := DISTS.get(scheme):
        return f"{scheme}:// needs an adapter that is not installed: pip install 'motet[{extra}]'"
    from importlib.metadata import entry_points

    known = sorted({point.name for point in entry_points(group=GROUP)} | set(DISTS))
    return f"no backend serves {scheme}://; there are {', '.join(f'{each}://' for each in known)}"


def masked(url: str) -> str:
    """Write a URL without its password, for logs and errors."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:***@{host}").geturl()
