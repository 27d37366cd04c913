"""A shard's dead letters. Those that are gone leave a note of where they were, for whoever lists from there on (X3)."""

from __future__ import annotations

from datetime import datetime

import msgspec

from motet.engine.deadletters import agrees
from motet.message import DeadLetter
from motet.ports import Filter
from motet_rabbitmq.calls import call
from motet_rabbitmq.letters import Letters
from motet_rabbitmq.ops import WireParcel
from motet_rabbitmq.state import State, Table

__all__ = ["Burials", "Place"]

REMEMBER = 3600.0
"""Seconds for which it is known where a letter was."""

Place = tuple[datetime, int]
"""Where a letter stands in the order: by its time, then by its burial."""


class Burial(msgspec.Struct, frozen=True, array_like=True):
    """A letter, or where it was."""

    at: datetime
    born: int
    letter: DeadLetter | None
    until: float | None = None


class Burials:
    """What port X keeps of the letters whose ids are this shard's."""

    def __init__(self, state: State, letters: Letters) -> None:
        self.state = state
        self.letters = letters
        self.rows: Table[Burial] = Table(state, "x", Burial, self._noted)

    def _noted(self, name: str, _: str, before: Burial | None, after: Burial | None) -> None:
        if after is not None:
            self.state.heard(after.born)

    def expired(self, kind: str, name: str, _: str) -> None:
        """A note has been kept long enough."""
        self.rows.drop(name)

    def letter(self, name: str) -> DeadLetter | None:
        row = self.rows.get(name)
        return None if row is None else row.letter

    def write(self, letter: DeadLetter) -> None:
        """Keep a letter, unless it is there (X2)."""
        if self.letter(letter.id) is None:
            self.rows.put(letter.id, "", Burial(letter.at, self.state.serial(), letter))

    @call()
    def bury(self, letters: list[DeadLetter]) -> None:
        for letter in letters:
            self.write(letter)

    @call()
    def get(self, ids: list[str]) -> list[DeadLetter | None]:
        return [self.letter(name) for name in ids]

    @call()
    def place(self, name: str) -> Place | None:
        """Say where a letter stands, or stood."""
        row = self.rows.get(name)
        return None if row is None else (row.at, row.born)

    @call()
    def page(self, filter: Filter, before: Place | None, limit: int, oldest: bool) -> list[tuple[Place, DeadLetter]]:
        """List what a filter chooses, from one end of the order."""
        rows = ((row, row.letter) for rows in self.rows.rows.values() for row in rows.values())
        found = [((row.at, row.born), letter) for row, letter in rows if letter is not None and agrees(letter, filter)]
        if before is not None:
            found = [each for each in found if each[0] < before]
        return sorted(found, key=lambda each: each[0], reverse=not oldest)[:limit]

    @call()
    def remove(self, ids: list[str]) -> list[bool]:
        """Forget letters, but not yet where they were."""
        return [self._remove(name) for name in ids]

    def _remove(self, name: str) -> bool:
        row = self.rows.get(name)
        if row is None or row.letter is None:
            return False
        self.rows.put(name, "", Burial(row.at, row.born, None, self.state.now + REMEMBER))
        return True

    @call()
    def replay(self, replays: list[tuple[str, WireParcel]]) -> list[bool]:
        """Publish parcels in place of their letters, in one step (X5, C11)."""
        gone = [self._remove(name) for name, _ in replays]
        for (_, parcel), there in zip(replays, gone, strict=True):
            if there:
                self.letters.add(parcel)
        return gone
