"""What happens, for whoever watches: a short stream, opt-in by the capability `events`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

__all__ = ["Events"]


class Events(Protocol):
    """Keeps the last events for readers; lossy for the slow, and nothing is decided by it.

    E1. Events are read in the order in which one emitter emitted them, by every reader, any bytes as they are.
    E2. A cursor continues: nothing between two reads is missed or read twice. None begins now.
    E3. `read` returns as soon as there is an event, at most `limit`, and nothing after `wait`.
    E4. At least the last 1,000 events are kept, and not many more: a reader that is behind further begins with the
        oldest.
    """

    async def emit(self, events: Sequence[bytes]) -> None:
        """Append events."""
        ...

    async def read(self, cursor: str | None, limit: int, wait: timedelta) -> tuple[str, list[bytes]]:
        """Read what came after a cursor, and the cursor after that."""
        ...
