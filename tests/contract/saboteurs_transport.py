"""Saboteurs of port T."""

from __future__ import annotations

from typing import Any

from harness import saboteur

from motet.memory import MemoryBackend


@saboteur("T2")
def what_is_held_is_delivered_again(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters
    take = type(letters).take

    def taken(*args: Any, **kwargs: Any) -> Any:
        for letter in [letter for letter in letters.all.values() if letter.receipt and letter.deliveries == 1]:
            letters.lanes[letter.parcel.lane].append(letter)
        return take(letters, *args, **kwargs)

    letters.take = taken
