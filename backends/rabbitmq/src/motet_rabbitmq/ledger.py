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


class Held(msgspec.Struct, gc=False):
    """A delta that is held. `needed` counts the rows for which it is the last one."""

    names: tuple[Name, ...]
    size: int
    at: float
    needed: int = 0


class Ledger:
    """The deltas of one shard by tag, in the order of the queue."""

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}
        self.size: int = 0
        self.latest: dict[Name, int] = {}
        self.copies: dict[Name, int] = {}
        self.gone: set[Name] = set()

    def __len__(self) -> int:
        return len(self.held)

    def hold(self, tag: int, changes: Iterable[Change], size: int, now: float) -> list[int]:
        """Enter a delta that the queue has delivered; return the tags of those that are not needed any more."""
        listed = list(changes)
        held = self.held[tag] = Held(tuple(change.name for change in listed), size, now)
        self.size += size
        idle: list[int] = []
        for change in listed:
            name = change.name
            self.copies[name] = self.copies.get(name, 0) + 1
            before = self.latest.pop(name, None)
            if before is not None:
                self._less(before, idle)
            self.gone.discard(name)
            if change.value is not None or self.copies[name] > 1:
                self.latest[name] = tag
                held.needed += 1
                if change.value is None:
                    self.gone.add(name)
        if not held.needed:
            idle.append(tag)
        return self._release(idle)

    def oldest(self) -> float | None:
        """When the oldest delta came."""
        return next((held.at for held in self.held.values()), None)

    def fold(self, count: int) -> tuple[list[int], list[Name]]:
        """Let go of so many of the oldest; return their tags, and the rows whose values must be written anew."""
        tags = list(self.held)[:count]
        names = [name for tag in tags for name in self.held[tag].names if self.latest.get(name) == tag]
        needed = [name for name in names if name not in self.gone]
        for name in names:
            # Whatever is older and has the row is among the folded.
            del self.latest[name]
            self.gone.discard(name)
        return self._release(tags), needed

    def _less(self, tag: int, idle: list[int]) -> None:
        held = self.held[tag]
        held.needed -= 1
        if not held.needed:
            idle.append(tag)

    def _release(self, idle: list[int]) -> list[int]:
        released: list[int] = []
        while idle:
            tag = idle.pop()
            held = self.held.pop(tag, None)
            if held is None:
                continue
            released.append(tag)
            self.size -= held.size
            for name in held.names:
                self.copies[name] -= 1
                if not self.copies[name]:
                    del self.copies[name]
                elif self.copies[name] == 1 and name in self.gone:
                    # Nothing is left that the note could be about.
                    self.gone.discard(name)
                    self._less(self.latest.pop(name), idle)
        return released
