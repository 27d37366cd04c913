"""Saboteurs of port T: keyed publishes."""

from __future__ import annotations

from typing import Any

import anyio.lowlevel
import msgspec
from harness import instead, saboteur

from motet.memory import MemoryBackend
from motet.message import Key
from motet.ports import Admission, Rule
from motet.program import Put


def standing(backend: MemoryBackend, admission: Admission) -> Any:
    """Return the letter that stands for a key; None when there is no such key, or the letter is gone."""
    letters: Any = backend.world.letters
    return letters.all.get(letters.keys.get(admission.key, ("", 0.0))[0])


def outcome(admission: Admission, name: str) -> Key:
    """Return the key of the record that tells a run that its parcel has lost its place."""
    return Key(name.partition(":")[0], admission.outcome)


# T19: in one step, and once.


@saboteur("T19")
def of_two_that_look_at_once_both_publish(backend: MemoryBackend) -> None:
    @instead(backend.transport, "admit")
    async def admit(original: Any, admissions: Any) -> Any:
        unknown = [each for each in admissions if each.key not in backend.world.letters.keys]
        await anyio.lowlevel.checkpoint()
        for each in unknown:
            backend.world.letters.keys.pop(each.key, None)
        return await original(admissions)


@saboteur("T19")
def a_batch_does_not_see_its_own_keys(backend: MemoryBackend) -> None:
    @instead(backend.transport, "admit")
    async def admit(original: Any, admissions: Any) -> Any:
        keys = backend.world.letters.keys
        unknown = {each.key for each in admissions if each.key not in keys}
        answers = []
        for each in admissions:
            if each.key in unknown:
                keys.pop(each.key, None)
            answers += await original([each])
        return answers


@saboteur("T19")
def a_key_is_forgotten_with_its_message_for_the_one_that_had_it(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letters = backend.world.letters
        if letters.keys.get(admission.key, ("", 0.0))[0] == admission.parcel.id not in letters.all:
            del letters.keys[admission.key]
        return original(admission)


@saboteur("T19")
def what_is_admitted_again_takes_its_own_place(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letter = standing(backend, admission)
        if letter and letter.parcel.id == admission.parcel.id and not letter.receipt:
            letter.parcel = admission.parcel
        return original(admission)


@saboteur("T19")
def what_lost_its_place_takes_it_back(backend: MemoryBackend) -> None:
    @instead(backend.world, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        record = outcome(admission, admission.parcel.id)
        if backend.world.records.get(record) == admission.replaced:
            backend.world.records.remove(record)
        return original(admission)


# T20: the window.


@saboteur("T20")
def a_window_never_ends(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "standing")
    def kept(original: Any, key: str, now: float) -> str | None:
        found: str | None = original(key, 0.0)
        return found


@saboteur("T20")
def a_window_ends_with_its_message(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        kept = backend.world.letters.keys.get(admission.key)
        if (
            kept
            and admission.rule is Rule.FIRST
            and kept[0] != admission.parcel.id
            and not standing(backend, admission)
        ):
            del backend.world.letters.keys[admission.key]
        return original(admission)


@saboteur("T20")
def whoever_is_refused_makes_the_window_longer(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letters = backend.world.letters
        name, lost = original(admission)
        letters.keys[admission.key] = name, letters.clock.monotonic() + admission.window.total_seconds()
        return name, lost


# T21, T22: what is replaced.


def with_parcel(admission: Admission, **changes: Any) -> Admission:
    """Change the parcel of an admission."""
    return msgspec.structs.replace(admission, parcel=msgspec.structs.replace(admission.parcel, **changes))


@saboteur("T21")
def the_first_of_a_burst_says_when(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letter = standing(backend, admission)
        burst = admission.rule is Rule.DEBOUNCE and letter and letter.parked
        return original(with_parcel(admission, due=letter.parcel.due) if burst else admission)


@saboteur("T21")
def the_first_of_a_burst_says_what(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letter = standing(backend, admission)
        burst = admission.rule is Rule.DEBOUNCE and letter and letter.parked
        return original(with_parcel(admission, body=letter.parcel.body) if burst else admission)


def taken_away(backend: MemoryBackend, rule: Rule, *, held: bool) -> None:
    """Let a rule take the place of what is held, or of what is queued."""

    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letters = backend.world.letters
        letters.turn()
        letter = standing(backend, admission)
        other = letter and letter.parcel.id != admission.parcel.id and admission.rule is rule
        if other and held and letters.held.pop(letter.receipt, None):
            del letters.all[letter.parcel.id]
        elif other and not (held or letter.receipt or letter.parked):
            letters.withdraw(letter)
        return original(admission)


@saboteur("T21")
def debounce_takes_the_place_of_what_is_held(backend: MemoryBackend) -> None:
    taken_away(backend, Rule.DEBOUNCE, held=True)


@saboteur("T21")
def debounce_takes_the_place_of_what_is_queued(backend: MemoryBackend) -> None:
    taken_away(backend, Rule.DEBOUNCE, held=False)


@saboteur("T22")
def keep_last_takes_the_place_of_what_is_held(backend: MemoryBackend) -> None:
    taken_away(backend, Rule.KEEP_LAST, held=True)


@saboteur("T22")
def what_takes_a_place_in_the_lane_keeps_its_body(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letter = standing(backend, admission)
        waits = admission.rule is Rule.KEEP_LAST and letter and not letter.receipt
        return original(with_parcel(admission, body=letter.parcel.body) if waits else admission)


@saboteur("T22")
def keep_last_leaves_what_is_parked(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letter = standing(backend, admission)
        other = letter and letter.parked and letter.parcel.id != admission.parcel.id
        if other and admission.rule is Rule.KEEP_LAST:
            del backend.world.letters.keys[admission.key]
        return original(admission)


@saboteur("T22")
def while_one_runs_none_may_wait(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letter = standing(backend, admission)
        if admission.rule is Rule.KEEP_LAST and letter and letter.receipt:
            return letter.parcel.id, None
        return original(admission)


@saboteur("T22")
def keep_last_publishes_once_in_a_window(backend: MemoryBackend) -> None:
    @instead(backend.world.letters, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        kept = backend.world.letters.keys.get(admission.key)
        if kept and admission.rule is Rule.KEEP_LAST and kept[0] not in backend.world.letters.all:
            return kept[0], None
        return original(admission)


# T23: what becomes of who lost.


@saboteur("T23")
def nobody_is_woken_for_who_lost_its_place(backend: MemoryBackend) -> None:
    @instead(backend.world, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        waiting, backend.world.waiting = backend.world.waiting, {}
        try:
            return original(admission)
        finally:
            backend.world.waiting = waiting


@saboteur("T23")
def losing_a_place_overwrites_what_was_decided(backend: MemoryBackend) -> None:
    @instead(backend.world, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letter = standing(backend, admission)
        name = original(admission)
        if letter and letter.parcel.id not in backend.world.letters.all:
            backend.world.records.put(Put(outcome(admission, letter.parcel.id), admission.replaced))
        return name


@saboteur("T23")
def what_was_decided_already_is_delivered_all_the_same(backend: MemoryBackend) -> None:
    @instead(backend.world, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        letter = standing(backend, admission)
        if letter is not None and backend.world.records.get(outcome(admission, letter.parcel.id)) is not None:
            del backend.world.letters.keys[admission.key]
        return original(admission)


@saboteur("T23")
def the_record_has_always_the_same_name(backend: MemoryBackend) -> None:
    @instead(backend.world, "admit")
    def admit(original: Any, admission: Admission) -> Any:
        return original(msgspec.structs.replace(admission, outcome="o.0"))
