"""Messages as they go out and come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Delivery", "Frame", "Properties"]


class Frame(msgspec.Struct, frozen=True):
    """A message to publish; to the default exchange its routing key is the name of a queue."""

    routing_key: str
    body: bytes
    exchange: str = ""
    headers: Mapping[str, Any] | None = None
    """Strings, bytes, booleans, integers of 64 bits, floats, None, and lists and mappings of these."""
    message_id: str = ""
    expiration: int | None = None
    """Milliseconds after which the queue drops or dead-letters it."""
    mandatory: bool = True
    """Whether a message that no queue takes is an error, `Unroutable`."""
    persistent: bool = True


class Properties(msgspec.Struct):
    """What came beside a body."""

    headers: dict[str, Any]
    message_id: str = ""
    expiration: int | None = None
    persistent: bool = False
    timestamp: int = 0
    type: str = ""
    correlation_id: str = ""
    reply_to: str = ""


class Delivery(msgspec.Struct, gc=False):
    """A message held by a channel: `tag` settles it there, and means nothing elsewhere."""

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    body: bytes
    raw: bytes
    """Its properties, not read yet."""

    @property
    def properties(self) -> Properties:
        """Read what came beside the body; keep the answer, each call reads anew (some 5 us)."""
        raise NotImplementedError

    @property
    def headers(self) -> dict[str, Any]:
        return self.properties.headers

    @property
    def message_id(self) -> str:
        return self.properties.message_id
