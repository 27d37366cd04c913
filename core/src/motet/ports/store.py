"""Records: write-once outcomes, plans and values, barriers, and the marks of cancelled scopes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import msgspec

from motet.message import Key
from motet.program import Arrival, Flag, Once, Open, Put

__all__ = ["Barrier", "Store"]


class Barrier(msgspec.Struct, frozen=True):
    """A barrier's state: which slots have arrived, in the order of arrival, and how many members failed."""

    size: int
    arrived: tuple[int, ...]
    failed: int
    max_failed: int = 0
    fast: bool = False


class Store(Protocol):
    """Keeps the records of runs.

    S1. `put_once` writes where nothing is and answers None; otherwise it answers what is there, and changes nothing.
        Of two at once one wins, and both learn the winner's bytes.
    S2. Whoever was told of a write reads it: there are no stale reads.
    S3. `arrive` is a set-add: a slot counts once, however often it arrives, with the failures of its first arrival.
    S4. `arrive` answers from the level after it, whether or not it changed anything (C15).
    S5. `arrive` at an unknown barrier answers None and creates nothing.
    S6. `open` of an existing barrier changes nothing.
    S7. A record with a `ttl` is gone soon after it, one without stays until its run is swept.
    S8. `sweep` removes at most `limit` records of a run, and its barriers with the last of them; it answers True when
        nothing is left, and may be repeated (H3).
    S9. `flags` returns every scope flagged after the cursor, at the latest a second after `flag` returned, for an hour;
        with None it returns the cursor of now, and the flags of the last hour (H6).
    S10. `names` lists a run's records by the beginning of their name.
    S11. `runs` pages through the runs that have a record `r`: those that began last come first, whatever their ids.
    S12. Values are opaque: any bytes, none and a MiB of them included, come back equal.
    S13. `put` replaces what is there, with its time to live: of progress and other advisory records the last one
         counts.
    S14. `drop` forgets a record, and nothing but it.
    S15. `add` counts without losing an addition, whoever adds at the same time, and answers the sum after it. A counter
         is no record, though a record may have the same key; it goes with its run, or soon after the time to live that
         its last addition gave it.
    """

    async def put_once(self, records: Sequence[Once]) -> list[bytes | None]:
        """Write each record unless it exists; answer what was there."""
        ...

    async def put(self, records: Sequence[Put]) -> None:
        """Write each record."""
        ...

    async def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        """Read records."""
        ...

    async def drop(self, keys: Sequence[Key]) -> None:
        """Forget records."""
        ...

    async def add(self, key: Key, amount: int, ttl: timedelta | None = None) -> int:
        """Add to a counter, which begins at 0. The one call of this port that must not be repeated blindly."""
        ...

    async def open(self, barriers: Sequence[Open]) -> None:
        """Create barriers."""
        ...

    async def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        """Mark a slot and say what the barrier counts."""
        ...

    async def barriers(self, keys: Sequence[Key]) -> list[Barrier | None]:
        """Read barriers."""
        ...

    async def flag(self, scopes: Sequence[Flag]) -> None:
        """Let every worker know that scopes are cancelled."""
        ...

    async def flags(self, since: str | None) -> tuple[str, list[Flag]]:
        """Read the flags after a cursor, and the cursor after them."""
        ...

    async def names(self, run: str, prefix: str) -> list[str]:
        """List a run's records."""
        ...

    async def sweep(self, run: str, limit: int) -> bool:
        """Remove a run's records."""
        ...

    async def runs(self, before: str | None, limit: int) -> list[tuple[str, bytes]]:
        """List runs, newest first, after the one named `before`."""
        ...
