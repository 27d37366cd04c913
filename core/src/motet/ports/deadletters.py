"""Messages that were given up, kept with the reason until somebody replays or removes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from motet.message import DeadLetter, Parcel

__all__ = ["DeadLetters", "Filter"]


class Filter(msgspec.Struct, frozen=True):
    """Which dead letters: all that agree with everything that is given."""

    queue: str | None = None
    task: str | None = None
    kind: str | None = None
    since: datetime | None = None
    before: datetime | None = None


class DeadLetters(Protocol):
    """Keeps dead letters. They are written by the op `Bury` of a settlement, so that a death is never half noted.

    What X1 and X2 say of the op holds for the method `bury` too.

    X1. What `Bury` kept is found once `settle` has returned, equal in every field, and survives what messages survive.
    X2. Burying an id that is there already changes nothing: the first reason stands.
    X3. `page` lists the newest first, each letter once, after the id given; what is buried or removed meanwhile does
        not hide another.
    X4. A filter chooses by queue, task, kind of error, and time: `since` included, `before` excluded.
    X5. `replay` publishes a letter's parcel and removes the letter, in one step or so that it can be repeated: whoever
        presses how often, one answers True and one parcel is delivered (C11).
    X6. `remove` forgets letters and answers which were there. Removing one leaves the others.
    X7. `purge` forgets at most `limit` letters that a filter chooses, the oldest first, and answers how many.
    """

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; for a settler that has no stronger way to carry out the op."""
        ...

    async def get(self, ids: Sequence[str]) -> list[DeadLetter | None]:
        """Read letters."""
        ...

    async def page(self, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        """List letters, newest first."""
        ...

    async def replay(self, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        """Send letters' parcels in place of the letters; False where no letter was left."""
        ...

    async def remove(self, ids: Sequence[str]) -> list[bool]:
        """Forget letters."""
        ...

    async def purge(self, filter: Filter, limit: int) -> int:
        """Forget letters by a filter, a slice at a time."""
        ...
