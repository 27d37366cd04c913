"""Dead letters of a memory broker."""

from __future__ import annotations

import itertools
from datetime import datetime

from motet.engine.deadletters import agrees
from motet.message import DeadLetter
from motet.ports import Filter

__all__ = ["Burials"]

FORGOTTEN = 10_000
"""Places of letters that are gone, kept for whoever lists from there on (X3)."""


class Burials:
    """What port X keeps. The order is by time, then by burial."""

    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}
        self.places: dict[str, tuple[datetime, int]] = {}
        self.gone: dict[str, None] = {}
        self.counter: itertools.count[int] = itertools.count()

    def bury(self, letter: DeadLetter) -> None:
        """Keep a letter, unless it is there (X2)."""
        if letter.id in self.letters:
            return
        self.letters[letter.id] = letter
        self.places[letter.id] = letter.at, next(self.counter)
        self.gone.pop(letter.id, None)

    def remove(self, name: str) -> bool:
        """Forget a letter, but not yet where it was."""
        if self.letters.pop(name, None) is None:
            return False
        self.gone[name] = None
        if len(self.gone) > FORGOTTEN:
            oldest = next(iter(self.gone))
            del self.gone[oldest], self.places[oldest]
        return True

    def chosen(self, filter: Filter) -> list[DeadLetter]:
        """List the letters that a filter chooses, the oldest first."""
        found = [letter for letter in self.letters.values() if agrees(letter, filter)]
        return sorted(found, key=lambda letter: self.places[letter.id])

    def page(self, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        """List letters, newest first; from the newest when nobody remembers `after`."""
        found = self.chosen(filter)[::-1]
        if after is not None and (place := self.places.get(after)) is not None:
            found = [letter for letter in found if self.places[letter.id] < place]
        return found[:limit]
