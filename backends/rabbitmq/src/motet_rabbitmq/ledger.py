"""Which deltas of a shard's queue are still needed: the last one of each row, and no other.

Deltas are held unacknowledged. One that has been superseded in every row is let go. A delta that says a row is gone is
needed as long as an older one that has the row is held: else a replay would bring it back.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from motet_rabbitmq.state import Change

__all__ = ["Ledger"]

Name = tuple[str, str, str]


class Held(msgspec.Struct, gc=False, eq=False):
    """A delta that is held. `needed` counts the rows for which it is the last one."""

    tag: int
    rows: list[Row]
    size: int
    at: float
    needed: int = 0


class Row(msgspec.Struct, gc=False, eq=False):
    """How many of the held deltas have a row, the tag of the last one that is needed, and whether it says "gone"."""

    name: Name
    copies: int = 0
    latest: int = 0
    gone: bool = False


class Ledger:
    """The deltas of one shard by tag, in the order of the queue."""

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}
        self.size: int = 0
        self.rows: dict[Name, Row] = {}

    def __len__(self) -> int:
        return len(self.held)

    def hold(self, tag: int, changes: Iterable[Change], size: int, now: float) -> list[int]:
        """Enter a delta that the queue has delivered; return the tags of those that are not needed any more."""
        known = self.rows
        rows: list[Row] = []
        held = self.held[tag] = Held(tag, rows, size, now)
        self.size += size
        idle: list[Held] = []
        for change in changes:
            name = change.kind, change.first, change.second
            row = known.get(name)
            if row is None:
                row = known[name] = Row(name)
            rows.append(row)
            row.copies += 1
            if row.latest:
                before = self.held[row.latest]
                before.needed -= 1
                if not before.needed:
                    idle.append(before)
            row.gone = change.value is None and row.copies > 1
            if row.gone or change.value is not None:
                row.latest = tag
                held.needed += 1
            else:
                row.latest = 0
        if not held.needed:
            idle.append(held)
        return self._release(idle)

    def oldest(self) -> float | None:
        """When the oldest delta came."""
        return next((held.at for held in self.held.values()), None)

    def fold(self, count: int) -> tuple[list[int], list[Name]]:
        """Let go of so many of the oldest; return their tags, and the rows whose values must be written anew."""
        folded = list(self.held.values())[:count]
        rows = [row for held in folded for row in held.rows if row.latest == held.tag]
        needed = [row.name for row in rows if not row.gone]
        for row in rows:
            # Whatever is older and has the row is among the folded.
            row.latest, row.gone = 0, False
        return self._release(folded), needed

    def _release(self, idle: list[Held]) -> list[int]:
        released: list[int] = []
        while idle:
            held = idle.pop()
            if self.held.pop(held.tag, None) is None:
                continue
            released.append(held.tag)
            self.size -= held.size
            for row in held.rows:
                row.copies -= 1
                if not row.copies:
                    del self.rows[row.name]
                elif row.copies == 1 and row.gone:
                    # Nothing is left that the note could be about.
                    last = self.held[row.latest]
                    row.latest, row.gone = 0, False
                    last.needed -= 1
                    if not last.needed:
                        idle.append(last)
        return released
