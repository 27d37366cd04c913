"""Random workflows: every way to compose terms, small enough that thousands can be run."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from calls import boom, flaky, leaf, poison, spawn, swap

from motet import Group, Term, chain, group
from motet.canvas import plan
from motet.retry import FixedDelay

__all__ = ["FEATURES", "Writer", "numbers", "span", "spread"]

FEATURES = (
    "boom",
    "flaky",
    "swap",
    "spawn",
    "poison",
    "recover",
    "callbacks",
    "within",
    "timeout",
    "delay",
    "fail_fast",
    "collect",
    "min_success",
    "empty",
    "immutable",
    "stagger",
)


@dataclass
class Writer:
    """Writes terms with leaves of names that nobody else has."""

    rng: random.Random
    features: frozenset[str]
    names: int = 0

    def has(self, feature: str, share: float) -> bool:
        return feature in self.features and self.rng.random() < share

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    def term(self, leaves: int, depth: int = 0) -> Term[Any, Any]:
        """Write a term of about so many leaves."""
        rng = self.rng
        if self.has("empty", 0.06):
            return rng.choice([group(), chain(), group(group())])
        made: Term[Any, Any]
        if leaves <= 1 or depth > 4:
            made = self.leaf()
        else:
            parts = self.split(leaves)
            kind = rng.random()
            if kind < 0.4:
                made = self.chain([self.term(part, depth + 1) for part in parts])
            elif kind < 0.75:
                made = self.group([self.term(part, depth + 1) for part in parts])
            else:
                last = parts.pop() if len(parts) > 1 else 1
                made = self.group([self.term(part, depth + 1) for part in parts]) | self.term(last, depth + 1)
        return self.decorated(made)

    def split(self, leaves: int) -> list[int]:
        """Share leaves out among a few children."""
        count = self.rng.randrange(1, min(leaves, 5) + 1)
        cuts = sorted(self.rng.randrange(1, leaves) for _ in range(count - 1))
        return [max(1, end - start) for start, end in zip([0, *cuts], [*cuts, leaves], strict=True)]

    def chain(self, steps: list[Term[Any, Any]]) -> Term[Any, Any]:
        made: Term[Any, Any] = steps[0]
        for step in steps[1:]:
            made = made >> step if self.has("immutable", 0.2) else made | step
        return made if len(steps) > 1 else chain(made)

    def group(self, members: list[Term[Any, Any]]) -> Any:
        made = group(members)
        if self.has("fail_fast", 0.3):
            made = made.policy("fail_fast")
        elif self.has("collect", 0.3):
            made = made.policy("collect")
        if self.has("min_success", 0.2):
            made = made.policy(made.rule, min_success=self.rng.randrange(len(members) + 1))
        return made.stagger(0.2) if self.has("stagger", 0.1) else made

    def decorated(self, made: Term[Any, Any]) -> Term[Any, Any]:
        if self.has("recover", 0.12):
            made = made.recover(self.leaf())
        if self.has("callbacks", 0.12):
            callback = self.leaf() if self.rng.random() < 0.7 else self.leaf() | self.leaf()
            made = made.on_success(callback) if self.rng.random() < 0.5 else made.on_failure(callback)
        if self.has("within", 0.08):
            made = made.within(self.rng.choice([0.05, 0.5, 3.0]))
        return made

    def leaf(self) -> Term[Any, Any]:
        rng, name = self.rng, self.name()
        task: Any = leaf
        for feature, other, share in (
            ("boom", boom, 0.12),
            ("flaky", flaky, 0.15),
            ("swap", swap, 0.08),
            ("spawn", spawn, 0.08),
            ("poison", poison, 0.02),
        ):
            if self.has(feature, share):
                task = other
                break
        made: Term[Any, Any] = task.si(name) if self.has("immutable", 0.2) else task.partial(name)
        if task in (flaky, boom) and rng.random() < (0.9 if task is flaky else 0.3):
            policy = FixedDelay(rng.choice([0.0, 0.1, 1.0]), max_retries=rng.randrange(1, 4))
            made = made.set(retry_policy=policy)
        if self.has("timeout", 0.1):
            made = made.set(timeout=rng.choice([0.1, 1.0]))
        if self.has("delay", 0.08):
            made = made.set(delay=rng.choice([0.1, 1.0]))
        return made


def span(term: Term[Any, Any]) -> int:
    """Count the nodes of a term: its own, and those that stand between a wide group and its members."""
    if isinstance(term, Group):
        return sum(1 for _ in spread(term, 0, rows=True)) - len(term.members) + 1 + sum(map(span, term.members))
    return 1 + sum(map(span, term.children))


def spread(term: Group[Any, Any], number: int, *, rows: bool = False) -> Iterator[tuple[Term[Any, Any], int]]:
    """Lay a group out: its members with their numbers, and the rows between, if asked for."""
    yield from _spread(term.members, number + 1, rows)


def _spread(
    members: Sequence[Term[Any, Any]], number: int, rows: bool
) -> Generator[tuple[Term[Any, Any], int], None, int]:
    share = 1
    while -(-len(members) // share) > plan.FANOUT:
        share *= plan.FANOUT
    if share == 1:
        for member in members:
            yield member, number
            number += 1 if rows else span(member)
        return number
    for start in range(0, len(members), share):
        if rows:
            yield members[start], number
        number = yield from _spread(members[start : start + share], number + 1, rows)
    return number


def numbers(term: Term[Any, Any], number: int = 0) -> Iterator[int]:
    """Yield the numbers of the nodes that a user can name."""
    yield number
    if isinstance(term, Group):
        for member, at in spread(term, number):
            yield from numbers(member, at)
        return
    number += 1
    for child in term.children:
        yield from numbers(child, number)
        number += span(child)
