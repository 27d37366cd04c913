"""The judge of executions: how often a body ran, and whether it ought to have been started at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Protocol

from calls import Execution
from faults import Weather
from witness import Witness

from motet import Signature, Term, group
from motet.message import Key

__all__ = ["Bodies", "History", "instead", "names"]

SEEN = 1.0
"""Seconds after which a cancel has been seen by every worker that is well."""
QUICK = 0.01
"""Seconds that half a call takes, on average, where that can be asked of them."""


class History(Protocol):
    """What the judge reads."""

    world: Witness
    executions: list[Execution]
    runs: Any
    weather: Weather
    ordered: bool


class Bodies:
    """Looks at every execution of a schedule."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.world = history.world
        self.owners: dict[str, dict[str, str]] = defaultdict(dict)
        """Of each run, what leaf each segment stands for."""
        for key, (_, value) in self.world.decided.items():
            if key.name.startswith("s."):
                self.owners[key.run][value.decode()] = key.name[2:]

    def all(self) -> None:
        """I7: a body runs again only for a lease that was lost, a copy, or a hand-back."""
        # What comes back after a run was swept, as late as nothing should (B6), begins it anew.
        gone = {**self.world.expired, **self.world.forgotten}
        early = (each for each in self.history.executions if each.start < gone.get(each.run, float("inf")))
        counts = Counter(execution.message for execution in early)
        for name, count in counts.items():
            letters = [name, *(f"{name}~{copy}" for copy in range(1, self.world.copies[name] + 1))]
            allowed = sum(1 + self.world.again[each] + self.world.returned[each] for each in letters)
            if self.world.copies or (self.history.ordered and self.world.losses):
                # Sent by one that did not know that it had lost its message, or that somebody else has a copy (M9).
                allowed += self.world.resent[name]
            if count > allowed:
                self.world.wrong("I7", f"{name} ran {count} times, {allowed} are explained")
        for execution in self.history.executions:
            self.looked(execution)
            if self.history.weather.slowness <= QUICK:
                self.obeyed(execution)

    def obeyed(self, execution: Execution) -> None:
        """I6: in a cancelled scope nothing starts later than a second after it could be seen, but for faults."""
        places, owners = [execution.place], self.owners.get(execution.run, {})
        while "." in places[-1]:
            places.append(owners.get(places[-1].partition(".")[0], "0"))
        for moment, flag in self.world.flagged.get(execution.run, ()):
            if moment + SEEN >= execution.start or execution.struck >= moment - SEEN:
                continue
            for place in places:
                segment, _, number = place.rpartition(".")
                if segment == flag.segment and flag.first <= int(number) <= flag.last:
                    text = f"{execution.message} ran at {execution.start:.3f}, cancelled since {moment:.3f}"
                    self.world.wrong("I6", text)

    def looked(self, execution: Execution) -> None:
        """C3: who was told to look before it runs does not run what was decided when it got the message."""
        run, place = execution.run, execution.place
        found = (self.world.decided.get(Key(run, f"{kind}.{place}")) for kind in ("o", "s"))
        decided = min((moment for moment, _ in filter(None, found)), default=None)
        if decided is None:
            return
        forgotten = min(each.get(run, float("inf")) for each in (self.world.forgotten, self.world.expired))
        taken = [
            each
            for each in self.world.taken.get(execution.message, [])
            if each.holder is execution.actor and each.since <= execution.start
        ]
        if taken and all(each.suspect and decided < each.since < forgotten for each in taken):
            self.world.wrong("C3", f"{execution.message} ran at {execution.start:.3f}, though decided at {decided:.3f}")


def instead(body: Execution) -> Term[Any, Any] | None:
    """The term that was to take the place of a call, if any."""
    if body.replacement is not None:
        return body.replacement
    attached = [term for term, attach in body.spawned.values() if attach]
    return group(attached) if attached else None


def names(term: Term[Any, Any]) -> Iterator[str]:
    """Yield the names of a term's leaves, and of those of its callbacks."""
    if isinstance(term, Signature):
        yield term.args[-1]
    for child in (*term.children, *term.scope.on_success, *term.scope.on_failure):
        yield from names(child)
