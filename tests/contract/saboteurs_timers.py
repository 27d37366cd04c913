"""Saboteurs of port D."""

from __future__ import annotations

from typing import Any

import anyio.lowlevel
import msgspec
from harness import instead, quiet, saboteur

from motet.memory import MemoryBackend

# D1, D2: kept until they are due.


@saboteur("D1")
def what_is_parked_together_is_due_together(backend: MemoryBackend) -> None:
    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        first = min(parcel.due for parcel in parcels)
        await original([msgspec.structs.replace(parcel, due=first) for parcel in parcels])


@saboteur("D1")
def what_is_parked_together_waits_for_the_last(backend: MemoryBackend) -> None:
    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        last = max(parcel.due for parcel in parcels)
        await original([msgspec.structs.replace(parcel, due=last) for parcel in parcels])


@saboteur("D1")
def who_waits_already_does_not_learn_of_a_due_time(backend: MemoryBackend) -> None:
    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        with quiet(backend.world.letters):
            await original(parcels)


@saboteur("D2")
def who_leaves_takes_what_it_parked_along(backend: MemoryBackend) -> None:
    letters = backend.world.letters
    mine: set[str] = set()

    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        await original(parcels)
        mine.update(parcel.id for parcel in parcels)

    @instead(backend, "close")
    def close(original: Any) -> None:
        for letter in [letters.all[name] for name in mine & letters.all.keys()]:
            if letter.parked:
                letters.withdraw(letter)
        original()


# D3: an id is parked once.


@saboteur("D3")
def parking_again_moves_the_due_time(backend: MemoryBackend) -> None:
    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        letters = backend.world.letters
        for letter in [letters.all[parcel.id] for parcel in parcels if parcel.id in letters.all]:
            if letter.parked:
                letters.withdraw(letter)
        await original(parcels)


@saboteur("D3")
def parking_takes_what_is_queued_out_of_its_lane(backend: MemoryBackend) -> None:
    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        letters = backend.world.letters
        for letter in [letters.all[parcel.id] for parcel in parcels if parcel.id in letters.all]:
            if not letter.parked and not letter.receipt:
                letters.withdraw(letter)
        await original(parcels)


@saboteur("D3")
def parking_what_is_held_makes_a_second_one(backend: MemoryBackend) -> None:
    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        letters: Any = backend.world.letters
        for parcel in parcels:
            if (letter := letters.all.get(parcel.id)) is not None and letter.receipt:
                letters.park(type(letter)(parcel), parcel.due)
        await original(parcels)


# D4: suspect, and not charged.


@saboteur("D4")
def what_was_parked_is_delivered_as_fresh(backend: MemoryBackend) -> None:
    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        await original(parcels)
        for parcel in parcels:
            backend.world.letters.all[parcel.id].suspect = parcel.suspect


@saboteur("D4")
def to_be_parked_is_charged_like_a_delivery(backend: MemoryBackend) -> None:
    @instead(backend.timers, "park")
    async def park(original: Any, parcels: Any) -> None:
        known = set(backend.world.letters.all)
        await original(parcels)
        for parcel in parcels:
            backend.world.letters.all[parcel.id].deliveries += parcel.id not in known


# D5: taken back.


@saboteur("D5")
def what_is_queued_can_be_cancelled(backend: MemoryBackend) -> None:
    letters: Any = backend.world.letters

    @instead(letters, "cancel")
    def cancel(original: Any, name: str) -> bool:
        letters.turn()
        letter = letters.all.get(name)
        if letter is None or letter.receipt:
            return False
        letters.withdraw(letter)
        return True


@saboteur("D5")
def what_is_not_there_is_said_to_be_cancelled(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "cancel")
    def cancel(original: Any, name: str) -> bool:
        return original(name) or name not in backend.world.letters.all


@saboteur("D5")
def the_last_of_several_is_not_cancelled(backend: MemoryBackend) -> None:
    @instead(backend.timers, "cancel")
    async def cancel(original: Any, ids: Any) -> Any:
        answers = await original(ids[:-1] if len(ids) == 2 else ids)
        return [*answers, True] if len(ids) == 2 else answers


@saboteur("D5")
def what_is_delivered_while_it_is_cancelled_is_said_to_be_gone(backend: MemoryBackend) -> None:
    letters = backend.world.letters

    @instead(backend.timers, "cancel")
    async def cancel(original: Any, ids: Any) -> Any:
        parked = [name in letters.all and letters.all[name].parked for name in ids]
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        answers = await original(ids)
        return [answer or known for answer, known in zip(answers, parked, strict=True)]
