"""Saboteurs of port X."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio.lowlevel
import msgspec
from harness import instead, saboteur

from motet.memory import MemoryBackend
from motet.message import DeadLetter, Parcel
from motet.ports import Entry, Filter, Reply
from motet.program import Bury, Op

replaced = msgspec.structs.replace


@saboteur("X1")
def a_letter_forgets_the_run_that_it_was_replayed_from(backend: MemoryBackend) -> None:
    instead(backend.world.burials, "bury")(lambda real, letter: real(replaced(letter, of="")))


@saboteur("X1")
def letters_go_with_the_client_that_buried_them(backend: MemoryBackend) -> None:
    mine: set[str] = set()

    async def settle(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        mine.update(op.letter.id for entry in entries for op in entry.program if isinstance(op, Bury))
        replies: list[Reply] = await real(entries)
        return replies

    def close(real: Any) -> None:
        for name in mine:
            backend.world.burials.remove(name)
        real()

    instead(backend.settler, "settle")(settle)
    instead(backend, "close")(close)


@saboteur("X1")
def the_method_buries_the_first_letter_only(backend: MemoryBackend) -> None:
    async def bury(real: Any, letters: Sequence[DeadLetter]) -> None:
        await real(letters[:1])

    instead(backend.deadletters, "bury")(bury)


@saboteur("X1")
def a_message_of_which_nothing_but_a_letter_is_left_is_only_acknowledged(backend: MemoryBackend) -> None:
    def alone(program: Sequence[Op]) -> bool:
        only = program[0] if len(program) == 1 else None
        return isinstance(only, Bury) and only.letter.error.kind == "exception"

    async def settle(real: Any, entries: Sequence[Entry]) -> list[Reply]:
        lone = [entry.delivery is not None and alone(entry.program) for entry in entries]
        chosen = [replaced(e, program=()) if drop else e for e, drop in zip(entries, lone, strict=True)]
        replies: list[Reply] = await real(chosen)
        return replies

    instead(backend.settler, "settle")(settle)


@saboteur("X2")
def the_last_reason_stands(backend: MemoryBackend) -> None:
    burials = backend.world.burials

    def bury(real: Any, letter: DeadLetter) -> None:
        real(letter)
        burials.letters[letter.id] = letter

    instead(burials, "bury")(bury)


@saboteur("X2")
def a_letter_that_is_buried_again_moves_to_the_front(backend: MemoryBackend) -> None:
    burials = backend.world.burials

    def bury(real: Any, letter: DeadLetter) -> None:
        real(letter)
        burials.places[letter.id] = letter.at, next(burials.counter)

    instead(burials, "bury")(bury)


@saboteur("X2")
def the_method_takes_the_place_of_a_letter(backend: MemoryBackend) -> None:
    async def bury(real: Any, letters: Sequence[DeadLetter]) -> None:
        await backend.deadletters.remove([letter.id for letter in letters])
        await real(letters)

    instead(backend.deadletters, "bury")(bury)


@saboteur("X3")
def letters_are_listed_by_burial(backend: MemoryBackend) -> None:
    burials = backend.world.burials

    def page(real: Any, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        found = burials.chosen(filter)
        found.sort(key=lambda letter: -burials.places[letter.id][1])
        last = burials.places[after][1] if after in burials.places else 1e9
        return [letter for letter in found if burials.places[letter.id][1] < last][:limit]

    instead(burials, "page")(page)


@saboteur("X3")
def a_page_of_letters_begins_by_number(backend: MemoryBackend) -> None:
    numbers: dict[str | None, int] = vars(backend.world).setdefault("numbers", {None: 0})

    def page(real: Any, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        start = numbers.get(after, 0)
        found: list[DeadLetter] = real(filter, None, 10_000)[start : start + limit]
        numbers.update((letter.id, start + number) for number, letter in enumerate(found, 1))
        return found

    instead(backend.world.burials, "page")(page)


@saboteur("X3")
def nothing_comes_after_a_letter_that_is_gone(backend: MemoryBackend) -> None:
    def page(real: Any, filter: Filter, after: str | None, limit: int) -> Any:
        return [] if after in backend.world.burials.gone else real(filter, after, limit)

    instead(backend.world.burials, "page")(page)


@saboteur("X3")
def of_letters_of_one_moment_a_page_shows_one(backend: MemoryBackend) -> None:
    burials = backend.world.burials

    def page(real: Any, filter: Filter, after: str | None, limit: int) -> list[DeadLetter]:
        found: list[DeadLetter] = real(filter, after, 10_000)
        last = burials.places[after][0] if after is not None else None
        return [letter for letter in found if last is None or letter.at < last][:limit]

    instead(burials, "page")(page)


def read_filter(backend: MemoryBackend, misread: Any) -> None:
    """Have filters read wrongly."""
    instead(backend.world.burials, "chosen")(lambda real, given: real(misread(given)))


@saboteur("X4")
def a_filter_by_task_ignores_the_kind(backend: MemoryBackend) -> None:
    read_filter(backend, lambda each: replaced(each, kind=None) if each.task else each)


@saboteur("X4")
def a_filter_ignores_the_queue_when_a_time_is_given(backend: MemoryBackend) -> None:
    read_filter(backend, lambda each: replaced(each, queue=None) if each.since else each)


@saboteur("X4")
def since_is_excluded(backend: MemoryBackend) -> None:
    def chosen(real: Any, filter: Filter) -> list[DeadLetter]:
        return [letter for letter in real(filter) if letter.at != filter.since]

    instead(backend.world.burials, "chosen")(chosen)


@saboteur("X4")
def before_is_included(backend: MemoryBackend) -> None:
    def chosen(real: Any, filter: Filter) -> list[DeadLetter]:
        at_once = [letter for letter in backend.world.burials.letters.values() if letter.at == filter.before]
        return [*real(filter), *at_once]

    instead(backend.world.burials, "chosen")(chosen)


@saboteur("X5")
def of_two_who_press_at_once_both_replay(backend: MemoryBackend) -> None:
    async def replay(real: Any, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        there = [letter is not None for letter in await backend.deadletters.get([name for name, _ in replays])]
        await anyio.lowlevel.checkpoint()
        await real(replays)
        return there

    instead(backend.deadletters, "replay")(replay)


@saboteur("X5")
def a_letter_that_is_gone_is_sent_again(backend: MemoryBackend) -> None:
    async def replay(real: Any, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        answers: list[bool] = await real(replays)
        await backend.transport.publish([parcel for _, parcel in replays])
        return answers

    instead(backend.deadletters, "replay")(replay)


@saboteur("X5")
def a_letter_is_removed_before_its_parcel_is_sent(backend: MemoryBackend) -> None:
    async def replay(real: Any, replays: Sequence[tuple[str, Parcel]]) -> list[bool]:
        answers = await backend.deadletters.remove([name for name, _ in replays])
        await anyio.lowlevel.checkpoint()
        chosen = [parcel for answer, (_, parcel) in zip(answers, replays, strict=True) if answer]
        await backend.transport.publish(chosen)
        return answers

    instead(backend.deadletters, "replay")(replay)


@saboteur("X6")
def every_letter_was_there(backend: MemoryBackend) -> None:
    async def remove(real: Any, ids: Sequence[str]) -> list[bool]:
        await real(ids)
        return [True] * len(ids)

    instead(backend.deadletters, "remove")(remove)


@saboteur("X6")
def removing_ends_at_what_is_not_there(backend: MemoryBackend) -> None:
    async def remove(real: Any, ids: Sequence[str]) -> list[bool]:
        answers: list[bool] = []
        for name in ids:
            answers += [False] if False in answers else await real([name])
        return answers

    instead(backend.deadletters, "remove")(remove)


@saboteur("X7")
def purging_knows_no_limit(backend: MemoryBackend) -> None:
    async def purge(real: Any, filter: Filter, limit: int) -> Any:
        return min(limit, await real(filter, 10_000))

    instead(backend.deadletters, "purge")(purge)


@saboteur("X7")
def purging_begins_with_the_newest(backend: MemoryBackend) -> None:
    async def purge(real: Any, filter: Filter, limit: int) -> int:
        newest = await backend.deadletters.page(filter, None, limit)
        return sum(await backend.deadletters.remove([letter.id for letter in newest]))

    instead(backend.deadletters, "purge")(purge)


@saboteur("X7")
def purging_ignores_all_but_the_queue(backend: MemoryBackend) -> None:
    async def purge(real: Any, filter: Filter, limit: int) -> int:
        return int(await real(Filter(queue=filter.queue), limit))

    instead(backend.deadletters, "purge")(purge)
