"""A shard's keys of admissions: one parcel stands for each, and is in this shard's register, whosever run it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec

from motet.message import Key
from motet.ports import Rule
from motet_rabbitmq.calls import call
from motet_rabbitmq.letters import Letters, run_of
from motet_rabbitmq.ops import WireOnce, WireOp, WireParcel
from motet_rabbitmq.state import State, Table

__all__ = ["Keys", "WireAdmission"]

REMEMBERED = 64
"""Ids that stood for a key before: admitting one again is a repetition. The run's outcome tells of older ones."""


class WireAdmission(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An admission on its way."""

    key: str
    rule: Rule
    parcel: WireParcel
    window: timedelta
    outcome: str
    replaced: bytes


class Standing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who stands for a key, and stood for it before."""

    id: str
    until: float
    past: tuple[str, ...] = ()


class Keys:
    """Throttle, debounce and keep-last."""

    def __init__(self, state: State, letters: Letters, apply: Callable[[WireOp], object]) -> None:
        self.state = state
        self.letters = letters
        self.apply = apply
        self.rows: Table[Standing] = Table(state, "k", Standing)

    def expired(self, kind: str, key: str, _: str) -> None:
        """A window is over."""
        self.rows.drop(key)

    @call(grows=True)
    def admit(self, admissions: list[WireAdmission]) -> list[str]:
        return [self._admit(each) for each in admissions]

    @call()
    def standing(self, keys: list[str]) -> list[str | None]:
        found = [self.rows.get(key) for key in keys]
        return [None if row is None else row.id for row in found]

    def _admit(self, admission: WireAdmission) -> str:
        name, key = admission.parcel.id, admission.key
        row = self.rows.get(key)
        past: tuple[str, ...] = ()
        if row is not None:
            if admission.rule is Rule.FIRST or name == row.id or name in row.past:
                return row.id
            past = (*row.past, row.id)[-REMEMBERED:]
            if self.letters.waits(row.id, queued=admission.rule is Rule.KEEP_LAST):
                self.letters.withdraw(row.id)
                self.apply(WireOnce(Key(run_of(row.id), admission.outcome), admission.replaced, ends=True))
        self.letters.add(admission.parcel)
        self.rows.put(key, "", Standing(name, self.state.now + admission.window.total_seconds(), past))
        return name
