"""The judge of a history: which of the invariants I1 to I7 it breaks, and where. A pure function; it reads nothing.

| | |
|---|---|
| I1 | an accepted run has an outcome, and every step that must run has ended |
| I2 | a node has one outcome, whoever reads it, and all that it feeds are fed the same |
| I3 | a step begins after those before it have ended, and never behind one that failed |
| I4 | the outcome is what the term means over what its steps came to |
| I5 | a step is one node: effects keyed by node happen once, callbacks and continuations are sent once |
| I6 | nothing begins later than a second after `cancel` returned, or after a frozen worker was woken |
| I7 | executions less attempts are explained by kills, each with what a worker holds, and by lost leases |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from history import History, Mark, Outcome, Run

__all__ = ["CANCEL_SEEN", "Violation", "check", "doubled", "executions", "lost", "nodes"]

CANCEL_SEEN = 1.0


class Violation(NamedTuple):
    """An invariant that does not hold."""

    invariant: str
    root: str
    text: str


def check(history: History) -> list[Violation]:
    """Judge a history."""
    marks: dict[str, dict[str, list[Mark]]] = defaultdict(lambda: defaultdict(list))
    for mark in history.marks:
        marks[mark.root][mark.step].append(mark)
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in history.outcomes:
        outcomes[outcome.root].append(outcome)
    found: list[Violation] = []
    for run in history.runs.values():
        judged = Judged(run, marks[run.id], outcomes[run.id], history)
        found += [Violation(invariant, run.id, text) for invariant, text in judged.wrong()]
    strangers = sorted(set(marks) - set(history.runs))
    found += [Violation("I5", root, "it ran, and nobody has submitted it") for root in strangers]
    return found + list(too_often(history))


def lost(found: Iterable[Violation]) -> int:
    """Count runs of which something is lost."""
    return len({each.root for each in found if each.invariant == "I1"})


def doubled(found: Iterable[Violation]) -> int:
    """Count effects that happened twice."""
    return sum(each.invariant == "I5" for each in found)


def executions(history: History) -> int:
    """Count bodies that began. A copy of a message that is stopped before the body is none (M9)."""
    return sum(mark.event == "start" for mark in history.marks)


def nodes(history: History) -> int:
    """Count nodes of which a body began."""
    return len({mark.node for mark in history.marks})


def attempts(history: History) -> int:
    """Count what would have run without a fault: each attempt of each node once."""
    return len({(mark.node, mark.attempt) for mark in history.marks if mark.event == "start"})


def too_often(history: History) -> Iterator[Violation]:
    again = executions(history) - attempts(history)
    allowed = (history.kills + history.losses) * history.held
    if again > allowed:
        yield Violation("I7", "", f"{again} executions too many, with {history.kills} kills {allowed} are explained")


class Judged:
    """One run, its marks by step, and its outcomes."""

    def __init__(self, run: Run, marks: dict[str, list[Mark]], outcomes: Sequence[Outcome], history: History) -> None:
        self.run = run
        self.woken = history.woken
        self.soon = CANCEL_SEEN + history.slack
        self.shape = run.shape
        self.marks = marks
        self.outcomes = outcomes

    def wrong(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong, with the invariant."""
        yield from self.lost()
        yield from self.undecided()
        yield from self.untimely()
        yield from self.untrue()
        yield from self.twice()
        yield from self.late()

    def some(self, step: str, event: str) -> list[Mark]:
        return [mark for mark in self.marks.get(step, ()) if mark.event == event]

    def values(self, step: str, event: str = "end") -> list[Any]:
        return [mark.value for mark in self.some(step, event)]

    def lost(self) -> Iterator[tuple[str, str]]:
        if not self.run.accepted:
            return
        if not self.outcomes:
            yield "I1", "it has no outcome"
        elif self.outcomes[0].state == "cancelled":
            return
        for name, step in self.shape.steps.items():
            # An effect that is missing is a loss also where the run has ended: callbacks are sent after it.
            if self.outcomes and step.must and not (self.some(name, "end") or self.some(name, "fail")):
                yield "I1", f"{name} has never ended"

    def undecided(self) -> Iterator[tuple[str, str]]:
        known: dict[str, Outcome] = {}
        for outcome in self.outcomes:
            first = known.setdefault(outcome.node, outcome)
            if first != outcome:
                yield "I2", f"node {outcome.node} ended twice: {first[2:]}, {outcome[2:]}"
        for name, step in self.shape.steps.items():
            given = self.values(name, "start")
            if step.fed and any(each != given[0] for each in given):
                yield "I2", f"{name} was fed {given}: {step.fed} has more than one outcome"

    def untimely(self) -> Iterator[tuple[str, str]]:
        for name, step in self.shape.steps.items():
            started = min((mark.at for mark in self.some(name, "start")), default=None)
            if started is None:
                continue
            if step.never:
                yield "I3", f"{name} began behind a failure"
            for before in step.after:
                ended = self.some(before, "end") or self.some(before, "fail")
                if not ended or started < min(mark.at for mark in ended):
                    yield "I3", f"{name} began before {before} had ended"

    def untrue(self) -> Iterator[tuple[str, str]]:
        for name, step in self.shape.steps.items():
            given = self.values(name, "start")
            if step.fed and given and given[0] not in self.values(step.fed):
                yield "I4", f"{name} was fed {given[0]}, to which {step.fed} never came"
        if not self.outcomes:
            return
        state, value = self.outcomes[0].state, self.outcomes[0].value
        if state not in self.shape.states:
            yield "I4", f"it ended as {state} {value}, not as {' or '.join(self.shape.states)}"
        elif state == "ok":
            meant = self.values(self.shape.of) if self.shape.of else [self.shape.value]
            if value not in meant:
                yield "I4", f"its value is {value}, not {meant}"

    def twice(self) -> Iterator[tuple[str, str]]:
        for name, marks in self.marks.items():
            if len(seen := {mark.node for mark in marks}) > 1:
                yield "I5", f"{name} ran as {', '.join(sorted(seen))}"
            if name not in self.shape.steps:
                yield "I5", f"{name} ran, which is no step of it"

    def late(self) -> Iterator[tuple[str, str]]:
        if self.run.cancelled is None:
            return
        for name in self.marks:
            for mark in self.some(name, "start"):
                late = mark.at - max(self.run.cancelled, self.woken.get(mark.pid, 0.0))
                if late > self.soon:
                    yield "I6", f"{name} began {late:.3f} s after the cancel, or after {mark.pid} was awake to see it"
