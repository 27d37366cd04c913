"""The judge: what a term means, over the outcomes that were recorded, against what the history says was done.

It shares nothing with the engine but the names of records and the order in which nodes are numbered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from calls import ERROR, Execution, digest, plain
from executions import Bodies, History, instead, names
from workload import span, spread

from motet import Chain, Group, Signature, Term, group
from motet.canvas.records import closed_key, outcome_key, splice_key
from motet.canvas.terms import Recovered
from motet.identity import derive
from motet.message import Key, Place, Record, State, read_record
from motet.outcome import Kind

__all__ = ["judge"]

NOTHING = object()
"""What an empty chain hands on that was given nothing."""
UNKNOWN = object()
"""A value that cannot be foretold: whose replacement it was, nobody can say."""
LOST = 3
"""So often a worker must have died over a call before it may be given up."""


@dataclass(frozen=True)
class Ended:
    """How a node ended, and when its record was written; `by` is when the call was recorded that ended it."""

    state: State
    value: Any
    at: float
    by: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Where a node stands: its run, what it was given since when, and whether anything around it ended early."""

    run: str
    given: tuple[Any, ...]
    after: float
    closed: bool = False
    around: tuple[Place, ...] = ()


def judge(history: History) -> None:
    """Look at every run of a schedule."""
    Judge(history).all()


class Judge:
    """Walks the terms of all runs, and marks what it has explained."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.world = history.world
        self.bodies: dict[tuple[str, str], list[Execution]] = defaultdict(list)
        for execution in history.executions:
            self.bodies[execution.run, execution.place].append(execution)
        self.seen: set[tuple[str, str]] = set()
        self.void = False
        """Whether a call was replaced by one execution and ended by another: both may have started runs of one id."""
        self.ran = {execution.name for execution in history.executions}
        """Names of leaves; no two terms share one."""
        self.live = {key.run for key in self.world.decided} | {execution.run for execution in history.executions}

    def wrong(self, invariant: str, run: str, place: Place, text: str) -> None:
        self.world.wrong(invariant, f"{run} node {place}: {text}")

    def all(self) -> None:
        """Explain every run, and then find what nobody has explained."""
        for run in list(self.history.runs.values()):
            if run.accepted or run.id in self.live:
                ended = self.visit(run.term, Place("", 0), Scene(run.id, (), 0.0))
                self.clients(run, ended)
        for (run_id, place), bodies in self.bodies.items():
            if (run_id, place) not in self.seen and not self.void:
                self.world.wrong("I5", f"{run_id} node {place}, {bodies[0].name}, ran, and nothing says why")
        Bodies(self.history).all()

    def clients(self, run: Any, ended: Ended | None) -> None:
        """What clients were told is what is recorded."""
        for what, value in run.seen:
            if what == "ok" and (ended is None or ended.state != State.OK or not same(plain(value), ended.value)):
                self.world.wrong("I4", f"a client of {run.id} was told {value!r}, not {ended}")
            if what == "TaskFailed" and (ended is None or ended.state != State.ERR):
                self.world.wrong("I4", f"a client of {run.id} was told of a failure, not {ended}")
            if what in ("ResultGone", "UnknownRun", "StateLost") and run.ttl >= 60:
                self.world.wrong("I1", f"a client of {run.id} was told {value!r}")

    # Records.

    def record(self, run: str, place: Place) -> tuple[float, Record] | None:
        found = self.world.decided.get(outcome_key(run, place))
        return None if found is None else (found[0], read_record(found[1]))

    def touched(self, run: str, segment: str, first: int, last: int) -> Iterator[str]:
        """Yield the nodes of a stretch that ran."""
        for number in range(first, last):
            if (run, str(Place(segment, number))) in self.bodies:
                yield str(Place(segment, number))

    def untouched(self, term: Term[Any, Any], place: Place, run: str, why: str) -> None:
        """I3: nothing of a term ran that never had its turn."""
        for node in self.touched(run, place.segment, place.number, place.number + span(term)):
            self.seen.add((run, node))
            self.wrong("I3", run, place, f"{node} ran, but {why}")

    # Nodes.

    def visit(self, term: Term[Any, Any], place: Place, scene: Scene) -> Ended | None:
        """Say how a node ended, after everything in it has been looked at; None when it did not."""
        found = self.record(scene.run, place)
        early = found is not None and found[1].error is not None and not isinstance(term, Signature)
        if early and found is not None:
            self.explain_early(term, place, scene, found[1])
        inside = Scene(scene.run, scene.given, scene.after, scene.closed or early, (*scene.around, place))
        match term:
            case Signature():
                ended = self.leaf(term, place, inside, found)
            case Chain():
                ended = self.chain(term, place, inside)
            case Group():
                ended = self.group(term, place, inside, found)
            case Recovered():
                ended = self.recovered(term, place, inside)
            case _:
                raise TypeError(term)
        if found is None:
            if not scene.closed:
                self.wrong("I1", scene.run, place, "was never decided")
            return None
        at, record = found
        if early:
            ended = Ended(record.state, ERROR, at)
        elif ended is None or ended.state != record.state:
            self.wrong("I4", scene.run, place, f"is recorded as {record.state!r}, but came to {ended}")
            ended = None
        else:
            ended = Ended(ended.state, ended.value, at, ended.by)
        if ended is not None:
            self.callbacks(term, place, scene, ended)
        return ended

    def explain_early(self, term: Term[Any, Any], place: Place, scene: Scene, record: Record) -> None:
        """Something ended by itself, not by what is in it: a limit of time, or a cancel."""
        kind = record.error.kind if record.error is not None else ""
        if kind == Kind.TIMEOUT and term.scope.within is not None:
            return
        if kind == Kind.CANCELLED and scene.run in self.history.runs and self.history.runs[scene.run].cancels:
            return
        self.wrong("I4", scene.run, place, f"ended early, by {kind}, and nobody asked for it")

    def leaf(
        self, term: Signature[Any, Any], place: Place, scene: Scene, found: tuple[float, Record] | None
    ) -> Ended | None:
        run, name = scene.run, term.args[-1]
        bodies = self.bodies.get((run, str(place)), [])
        self.seen.add((run, str(place)))
        known = all(map(foretold, scene.given))
        wanted = 0 if term.immutable else digest(list(scene.given)) if known else None
        for body in bodies:
            if body.name != name:
                self.wrong("I5", run, place, f"{body.name} ran in the place of {name}")
            if body.start < scene.after:
                self.wrong("I3", run, place, f"ran at {body.start:.3f}, before {scene.after:.3f}")
            if wanted is not None and body.given != wanted:
                self.wrong("I4", run, place, f"{name} was given {body.given}, not {wanted} of {scene.given}")
        splice = self.world.decided.get(splice_key(run, place))
        own = found is not None and found[1].error is not None
        if splice is not None:
            # Of two executions one may be replaced while the other ends: the outcome that is recorded counts.
            void = self.by_itself(bodies, run, found)
            self.void = self.void or void
            scene = Scene(run, scene.given, scene.after, scene.closed or void or own, scene.around)
            ended = self.spliced(bodies, place, scene, splice, void)
            if not void and not own:
                return ended
            if not void:
                bodies = []
            elif not self.history.ordered and found is not None and found[0] < splice[0]:
                self.wrong("I2", run, place, f"was replaced at {splice[0]:.3f}, and decided at {found[0]:.3f}")
        if found is None:
            return None
        at, record = found
        if record.state != State.OK:
            self.failed(term, place, scene, record, bodies)
            return Ended(record.state, ERROR, at, at)
        value = self.value(run, record)
        if value is None:
            self.spawned(None, bodies, place, scene, at)
            return Ended(State.OK, UNKNOWN, at)
        winner = next((body for body in bodies if [body.name, body.nonce, body.given] == value[:3]), None)
        if winner is None:
            self.wrong("I4", run, place, f"has the value {value}, which no execution returned")
        elif splice is None:  # otherwise two executions have started runs of the same id: see `void`
            self.spawned(winner, bodies, place, scene, at)
        return Ended(State.OK, value, at, at)

    def by_itself(self, bodies: list[Execution], run: str, found: tuple[float, Record] | None) -> bool:
        """Whether a call has a value of its own, not that of a term in its place; or may have, where none is kept."""
        if found is None:
            return False
        value, alone = self.value(run, found[1]), [body for body in bodies if instead(body) is None]
        if value is None and found[1].state == State.OK:
            return bool(alone)
        return any(value and value[:2] == [body.name, body.nonce] for body in alone)

    def value(self, run: str, record: Record) -> Any:
        """The value of a leaf; None when nobody wanted it."""
        if record.value is not None:
            return msgspec.msgpack.decode(record.value)
        if record.source is None:
            return None
        if not record.source.stored:
            return None
        return msgspec.msgpack.decode(self.world.values[Key(run, record.source.stored)])

    def failed(
        self, term: Signature[Any, Any], place: Place, scene: Scene, record: Record, bodies: list[Execution]
    ) -> None:
        """Look whether a call had reason to fail."""
        error = record.error
        kind = error.kind if error is not None else ""
        policy = term.options.get("retry_policy")
        retries = 0 if policy is None else policy.max_retries
        lost = self.world.losses_of(f"{scene.run}:{place}:")  # a hand-back counts too (decision 8)
        allowed = {
            Kind.EXCEPTION: term.task in ("sim:boom", "sim:flaky"),
            Kind.TIMEOUT: "timeout" in term.options or term.scope.within is not None,
            Kind.WORKER_LOST: lost >= LOST,
            Kind.CANCELLED: scene.run in self.history.runs and bool(self.history.runs[scene.run].cancels),
        }
        if not allowed.get(Kind(kind), False):
            self.wrong("I4", scene.run, place, f"failed with {error}")
        if kind == Kind.EXCEPTION and error is not None and error.attempts != retries + 1:
            self.wrong("I4", scene.run, place, f"gave up after {error.attempts} attempts, not {retries + 1}")
        if any(body.attempt > retries + 1 for body in bodies):
            self.wrong("I4", scene.run, place, f"was tried more often than {retries + 1} times")

    def spliced(
        self, bodies: list[Execution], place: Place, scene: Scene, splice: tuple[float, bytes], void: bool
    ) -> Ended | None:
        """Look at the term that took a leaf's place: which one, the names of its leaves tell."""
        at, segment = splice[0], splice[1].decode()
        ran = {
            body.name
            for (run, node), inner in self.bodies.items()
            if run == scene.run and node.startswith(f"{segment}.")
            for body in inner
        }
        choices = [(body, term) for body in bodies if (term := instead(body)) is not None]
        # By what ran in its place; or, where that was nothing, by its callbacks.
        chosen = [each for each in choices if (ran or self.ran) & set(names(each[1]))]
        chosen = chosen or (choices if len(choices) == 1 else [])
        if len(chosen) != 1:
            if ran or not choices:
                self.wrong("I5", scene.run, place, f"was replaced {len(choices)} times, and {sorted(ran)} ran")
            self.spawned(None, bodies, place, scene, at)
            return Ended(self.state_of(scene.run, place), UNKNOWN, at)
        body, term = chosen[0]
        inner = self.visit(term, Place(segment, 0), Scene(scene.run, (), at, scene.closed, scene.around))
        if void:
            return None
        self.spawned(body, bodies, place, scene, at)
        if inner is None or inner.state != State.OK:
            return inner
        if body.replacement is not None:
            return Ended(inner.state, self.seen_from_outside(inner), inner.at)
        found = self.record(scene.run, place)
        value = None if found is None else self.value(scene.run, found[1])
        if value is not None and value[:3] != [body.name, body.nonce, body.given]:
            self.wrong("I4", scene.run, place, f"has the value {value}, which {body} did not return")
        return Ended(State.OK, UNKNOWN if value is None else value, at)

    def state_of(self, run: str, place: Place) -> State:
        found = self.record(run, place)
        return State.OK if found is None else found[1].state

    def chain(self, term: Chain[Any, Any], place: Place, scene: Scene) -> Ended | None:
        given, after, number = scene.given, scene.after, place.number + 1
        ended: Ended | None = Ended(State.OK, given[0] if given else NOTHING, after)
        for index, step in enumerate(term.steps):
            at = Place(place.segment, number)
            number += span(step)
            if ended is None or ended.state != State.OK:
                self.untouched(step, at, scene.run, f"the step before it came to {ended}")
                continue
            if index:
                self.stopped(step, at, scene, ended.by)
            inputs = () if index in term.drops or ended.value is NOTHING else (ended.value,)
            ended = self.visit(step, at, Scene(scene.run, inputs, after, scene.closed, scene.around))
            after = ended.at if ended is not None else after
        return ended

    def stopped(self, step: Term[Any, Any], place: Place, scene: Scene, recorded: float) -> None:
        """I6: what was recorded after a scope around it had been closed is not continued."""
        closed = [self.world.closed.get(closed_key(scene.run, outer)) for outer in scene.around]
        marks = [moment for moment in closed if moment is not None and moment < recorded]  # 0.0: it is not known
        if marks and any(self.touched(scene.run, place.segment, place.number, place.number + span(step))):
            self.wrong("I6", scene.run, place, f"ran after the step at {recorded:.3f}; closed since {marks[0]:.3f}")

    def group(
        self, term: Group[Any, Any], place: Place, scene: Scene, found: tuple[float, Record] | None
    ) -> Ended | None:
        decided = found[0] if found is not None else scene.after
        fast = term.rule == "fail_fast"
        stopped = scene.closed or (fast and found is not None and found[1].state == State.ERR)
        inside = Scene(scene.run, scene.given, scene.after, stopped, scene.around)
        members = [
            self.visit(member, Place(place.segment, number), inside) for member, number in spread(term, place.number)
        ]
        if not members:
            return Ended(State.OK, [], decided)
        allowed = len(members) if term.rule == "collect" else 0
        if term.min_success is not None:
            allowed = len(members) - term.min_success
        failed = sum(member is not None and member.state != State.OK for member in members)
        if None in members and not (fast and failed > allowed):
            return None
        by = min(decided, max((member.by for member in members if member is not None), default=0.0))
        if failed > allowed:
            return Ended(State.ERR, ERROR, decided, by)
        values = [self.seen_from_outside(member) for member in members if member is not None]
        return Ended(State.OK, values, decided, by)

    def seen_from_outside(self, ended: Ended) -> Any:
        return None if ended.value is NOTHING else ended.value

    def recovered(self, term: Recovered[Any, Any], place: Place, scene: Scene) -> Ended | None:
        first = Place(place.segment, place.number + 1)
        second = Place(place.segment, first.number + span(term.inner))
        inner = self.visit(term.inner, first, scene)
        if inner is None or inner.state != State.ERR:
            self.untouched(term.handler, second, scene.run, f"what it stands by for came to {inner}")
            return inner
        self.stopped(term.handler, second, scene, inner.by)
        return self.visit(term.handler, second, Scene(scene.run, (ERROR,), inner.at, scene.closed, scene.around))

    # What a node starts besides.

    def callbacks(self, term: Term[Any, Any], place: Place, scene: Scene, ended: Ended) -> None:
        """I5: the callbacks of a scope that ended so, and no others, each once."""
        given = (self.seen_from_outside(ended),)
        for role, state, terms in (("s", State.OK, term.scope.on_success), ("f", State.ERR, term.scope.on_failure)):
            for number, callback in enumerate(terms):
                run = derive(scene.run, place.segment, place.number, f"{role}{number}")
                self.child(callback, run, state == ended.state, Scene(run, given, ended.at, scene.closed))

    def spawned(self, winner: Execution | None, bodies: list[Execution], place: Place, scene: Scene, at: float) -> None:
        """I5: what the execution asked for that decided, and nothing that others asked for."""
        for key in sorted({key for body in bodies for key in body.spawned}):
            run = derive(scene.run, str(place), "+", key)
            asked = winner or self.asked(bodies, key)
            if asked is None:
                continue
            term, attached = asked.spawned.get(key, (None, False))
            wanted = term is not None and not attached
            self.child(term or group(), run, wanted, Scene(run, (), at if winner else 0.0, scene.closed))

    def asked(self, bodies: list[Execution], key: str) -> Execution | None:
        """Of those that may have asked for a run, one whose term it carries out; no two terms share a name."""
        asking = [body for body in bodies if key in body.spawned]
        return next((body for body in asking if self.ran & set(names(body.spawned[key][0]))), None)

    def child(self, term: Term[Any, Any], run: str, wanted: bool, scene: Scene) -> None:
        if run not in self.live:
            if wanted and not scene.closed:
                self.wrong("I1", run, Place("", 0), "was to be started, and never was")
        elif wanted:
            self.visit(term, Place("", 0), Scene(run, scene.given, scene.after))
        elif not self.void:
            self.wrong("I5", run, Place("", 0), "was started, and nothing says why")


def foretold(value: Any) -> bool:
    """Whether all of a value can be known."""
    return all(map(foretold, value)) if isinstance(value, list) else value is not UNKNOWN


def same(told: Any, expected: Any) -> bool:
    """Compare values, where what cannot be foretold stands for anything."""
    if expected is UNKNOWN:
        return True
    if expected is NOTHING:
        return told is None
    if isinstance(told, list) and isinstance(expected, list):
        return len(told) == len(expected) and all(map(same, told, expected))
    return bool(told == expected)
