"""The judge of fault histories is shown good ones, and each of them with one thing wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from checker import check, doubled, executions, lost, nodes
from history import History, Journal, Mark, Outcome, Run, Shape, Step, read

CHORD = Shape(
    {
        "a": Step(),
        "b": Step(),
        "total": Step(("a", "b")),
        "called": Step(("total",), fed="total"),
        "told": Step(never=True, must=False),
    },
    value=3,
)
DRAWN = Shape({"draw": Step(), "echo": Step(("draw",), fed="draw")}, of="echo")
SLOW = Shape({"s0": Step(), "s1": Step(("s0",), fed="s0")}, states=("ok", "cancelled"), value=2)
FAILING = Shape({"broken": Step(), "told": Step(("broken",))}, states=("failed",))


def ran(step: str, node: str, start: float, end: float, value: Any, **more: Any) -> list[Mark]:
    root, _, name = step.partition("/")
    first = Mark(root, name, node, more.get("attempt", 1), "start", more.get("pid", 1), start, more.get("given"))
    return [first, first._replace(event=more.get("event", "end"), at=end, value=value)]


def good() -> History:
    """A chord with a callback, a call that was repeated with another value, a retry, a failure, a cancelled chain."""
    marks = [
        *ran("chord/a", "chord:1", 1.0, 1.1, 1),
        *ran("chord/b", "chord:2", 1.0, 1.1, None, event="fail"),
        *ran("chord/b", "chord:2", 1.2, 1.3, 2, attempt=2),
        *ran("chord/total", "chord:3", 1.4, 1.5, 3),
        *ran("chord/called", "callback:0", 1.6, 1.7, None, given=3),
        *ran("drawn/draw", "drawn:1", 1.0, 1.1, "one"),
        *ran("drawn/draw", "drawn:1", 2.0, 2.1, "two", pid=2),
        *ran("drawn/echo", "drawn:2", 2.2, 2.3, "two", given="two"),
        *ran("slow/s0", "slow:1", 1.0, 1.1, 1),
        *ran("failing/broken", "failing:1", 1.0, 1.1, None, event="fail"),
        *ran("failing/told", "other:0", 1.2, 1.3, None),
    ]
    runs = [Run("chord", CHORD), Run("drawn", DRAWN), Run("slow", SLOW, cancelled=1.2), Run("failing", FAILING)]
    outcomes = [
        *(Outcome("chord", "chord", "ok", 3),) * 2,
        Outcome("drawn", "drawn", "ok", "two"),
        Outcome("slow", "slow", "cancelled"),
        Outcome("failing", "failing", "failed"),
    ]
    return History({run.id: run for run in runs}, tuple(marks), tuple(outcomes), kills=1, held=1)


def without(root: str, step: str, event: str = "") -> Callable[[History], History]:
    """Take the marks of a step away."""

    def doctor(history: History) -> History:
        kept = (m for m in history.marks if (m.root, m.step) != (root, step) or event not in (m.event, ""))
        return attrs.evolve(history, marks=tuple(kept))

    return doctor


def but(root: str, step: str, event: str, **changes: Any) -> Callable[[History], History]:
    """Change the last mark of a kind."""

    def doctor(history: History) -> History:
        marks = list(history.marks)
        place = max(i for i, m in enumerate(marks) if (m.root, m.step, m.event) == (root, step, event))
        marks[place] = marks[place]._replace(**changes)
        return attrs.evolve(history, marks=tuple(marks))

    return doctor


def more(*marks: Mark) -> Callable[[History], History]:
    return lambda history: attrs.evolve(history, marks=history.marks + marks)


def ended(*outcomes: Outcome) -> Callable[[History], History]:
    """Put outcomes in the place of those of the same runs."""
    roots = {outcome.root for outcome in outcomes}

    def doctor(history: History) -> History:
        kept = tuple(outcome for outcome in history.outcomes if outcome.root not in roots)
        return attrs.evolve(history, outcomes=kept + outcomes)

    return doctor


def unheard(history: History) -> History:
    return attrs.evolve(history, outcomes=tuple(each for each in history.outcomes if each.root != "chord"))


DOCTORED: dict[str, tuple[Callable[[History], History], set[str]]] = {
    "a run without an outcome": (unheard, {"I1"}),
    "a callback that never ran": (without("chord", "called"), {"I1"}),
    "a callback of a failure that never ran": (without("failing", "told"), {"I1"}),
    "a callback that began and never ended": (without("chord", "called", "end"), {"I1"}),
    "a member that began and never ended": (without("chord", "a", "end"), {"I1", "I3"}),
    "a member that never ran": (without("chord", "a"), {"I1", "I3"}),
    "two outcomes of a run": (ended(Outcome("chord", "chord", "ok", 3), Outcome("chord", "chord", "failed")), {"I2"}),
    "a value that changed": (ended(Outcome("chord", "chord", "ok", 3), Outcome("chord", "chord", "ok", 4)), {"I2"}),
    "a step that was fed both values": (
        more(*ran("drawn/echo", "drawn:2", 2.4, 2.5, "one", given="one", attempt=2)),
        {"I2"},
    ),
    "a body before a member had ended": (but("chord", "total", "start", at=1.25), {"I3"}),
    "a step before the one before it": (but("drawn", "echo", "start", at=0.5), {"I3"}),
    "a body behind a failure": (more(*ran("chord/told", "told:0", 2.0, 2.1, None)), {"I3"}),
    "a wrong value": (ended(Outcome("chord", "chord", "ok", 4)), {"I4"}),
    "a failure out of nothing": (ended(Outcome("chord", "chord", "failed")), {"I4"}),
    "a success in the place of a failure": (ended(Outcome("failing", "failing", "ok")), {"I4"}),
    "a value that nothing came to": (ended(Outcome("drawn", "drawn", "ok", "three")), {"I4"}),
    "a step that was fed what nothing came to": (but("drawn", "echo", "start", value="three"), {"I4"}),
    "a callback that was sent twice": (more(*ran("chord/called", "callback:1", 1.8, 1.9, None, given=3)), {"I5"}),
    "a body that was sent twice": (more(*ran("chord/total", "other:3", 1.8, 1.9, 3)), {"I5"}),
    "a step that is none": (more(*ran("chord/stranger", "chord:9", 1.8, 1.9, None)), {"I5"}),
    "a run that nobody submitted": (more(*ran("stranger/a", "stranger:0", 1.0, 1.1, 1)), {"I5"}),
    "a start after a cancel": (more(*ran("slow/s1", "slow:2", 2.3, 2.4, 2, given=1)), {"I6"}),
    "one execution too many": (more(*ran("chord/a", "chord:1", 2.0, 2.1, 1)), {"I7"}),
}


def test_a_good_history_is_good() -> None:
    history = good()

    assert check(history) == []
    assert (executions(history), nodes(history)) == (11, 9)


@pytest.mark.parametrize("name", DOCTORED)
def test_what_is_wrong_is_found_and_nothing_else(name: str) -> None:
    doctor, invariants = DOCTORED[name]

    found = check(doctor(good()))

    assert {each.invariant for each in found} == invariants
    assert bool(lost(found)) == ("I1" in invariants)
    assert doubled(found) == ("I5" in invariants)


def test_m9_a_kill_explains_as_many_executions_as_a_worker_holds_and_no_more() -> None:
    again = [mark for n in range(8) for mark in ran("chord/a", "chord:1", 2.0 + n, 2.1 + n, 1)]
    history = attrs.evolve(more(*again)(without("drawn", "draw", "none")(good())), held=9)

    assert check(history) == []
    assert [each.invariant for each in check(attrs.evolve(history, held=8))] == ["I7"]
    assert [each.invariant for each in check(attrs.evolve(history, held=8, kills=0, losses=1))] == ["I7"]
    assert check(attrs.evolve(history, held=8, losses=1)) == []


def test_m9_an_attempt_that_follows_a_failure_needs_no_kill_to_explain_it() -> None:
    history = without("drawn", "draw")(without("drawn", "echo")(good()))
    runs = {name: run for name, run in history.runs.items() if name != "drawn"}
    outcomes = tuple(outcome for outcome in history.outcomes if outcome.root != "drawn")

    assert check(attrs.evolve(history, runs=runs, outcomes=outcomes, kills=0)) == []


def test_a_submit_that_never_returned_may_have_come_to_nothing() -> None:
    run = Run("gone", CHORD, accepted=False)

    assert check(History({"gone": run}, (), ())) == []
    assert [each.invariant for each in check(History({"gone": attrs.evolve(run, accepted=True)}, (), ()))] == ["I1"]


def test_a_worker_that_was_frozen_has_a_second_to_see_a_cancel() -> None:
    history = more(*ran("slow/s1", "slow:2", 5.0, 5.1, 2, given=1, pid=7))(good())

    assert check(attrs.evolve(history, woken={7: 4.5})) == []
    assert [each.invariant for each in check(attrs.evolve(history, woken={7: 3.5}))] == ["I6"]
    assert [each.invariant for each in check(attrs.evolve(history, woken={8: 4.5}))] == ["I6"]


def test_a_machine_that_wakes_late_sees_a_cancel_later() -> None:
    history = more(*ran("slow/s1", "slow:2", 2.3, 2.4, 2, given=1))(good())

    assert check(attrs.evolve(history, slack=0.2)) == []


def test_what_a_process_notes_is_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.note("root/step", "root:1", 2, "start", {"given": [1]})
    journal.note("root/step", "root:1", 2, "end", "value")
    journal.close()
    (file,) = tmp_path.iterdir()

    start, end = read(file.read_text().splitlines())

    assert start[:5] == ("root", "step", "root:1", 2, "start")
    assert (start.value, end.value) == ({"given": [1]}, "value")
    assert end.at >= start.at
    assert json.loads(file.read_text().splitlines()[0])[5] == start.pid
