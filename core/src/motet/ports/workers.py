"""Which workers there are: each says so now and then, and is forgotten when it has been silent."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import msgspec

__all__ = ["Present", "Workers"]


class Present(msgspec.Struct, frozen=True):
    """A worker that was heard of. `about` is what it says of itself, opaque to the backend."""

    id: str
    about: bytes


class Workers(Protocol):
    """Keeps the roll of workers; advisory, nothing is decided by it.

    W1. A worker is listed from its first `beat`, with what it said last, by id.
    W2. One that has been silent for the `ttl` of its last beat is not listed any more.
    W3. One that has left is not listed, and others are.
    """

    async def beat(self, worker: Present, ttl: timedelta) -> None:
        """Say that a worker is there."""
        ...

    async def leave(self, id: str) -> None:
        """Say that a worker is gone."""
        ...

    async def present(self) -> list[Present]:
        """List the workers."""
        ...
