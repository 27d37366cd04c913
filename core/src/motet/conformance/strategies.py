"""Hypothesis strategies: terms, histories of a barrier and of a record, settlements. Published for adapters' tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from motet.canvas.terms import Term, chain, group
from motet.conformance.algebra import boom, leaf, rescue
from motet.message import Key, Parcel
from motet.options import Lane
from motet.program import Arrive, Do, Guard, Once, Op, Open, Publish, Put

__all__ = ["arrivals", "examples", "leaves", "names", "programs", "terms"]

T = TypeVar("T")

names: st.SearchStrategy[str] = st.integers(0, 999).map(lambda number: f"n{number}")


def leaves(*, failing: bool) -> st.SearchStrategy[Term[Any, Any]]:
    """Single calls: mutable, immutable, and, if asked for, failing ones."""
    good = names.flatmap(lambda name: st.sampled_from([leaf.partial(name), leaf.si(name)]))
    return st.one_of(good, good, good, names.map(boom.partial)) if failing else good


def terms(*, failing: bool = True, max_leaves: int = 12) -> st.SearchStrategy[Term[Any, Any]]:
    """Terms of every kind and nesting, empty chains and groups included."""
    return st.recursive(leaves(failing=failing), lambda inner: _composed(inner, failing), max_leaves=max_leaves)


def _composed(inner: st.SearchStrategy[Term[Any, Any]], failing: bool) -> st.SearchStrategy[Term[Any, Any]]:
    several = st.lists(inner, max_size=4)
    kinds = [
        several.map(lambda each: chain(*each)),
        several.map(group),
        st.tuples(inner, inner).map(lambda ab: ab[0] >> ab[1]),
    ]
    if failing:
        kinds.append(inner.map(lambda each: each.recover(rescue.s())))
    return st.one_of(*kinds)


def arrivals(size: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Histories of a barrier: every slot arrives at least once, some again, in any order; each with its failures."""
    failures = st.lists(st.integers(0, 1), min_size=size, max_size=size)
    again = st.lists(st.integers(0, size - 1), max_size=size)
    return st.tuples(failures, again).flatmap(
        lambda given: st.permutations([(slot, given[0][slot]) for slot in [*range(size), *given[1]]])
    )


def programs(run: str, lane: Lane, mark: str = "", *, max_leaves: int = 12) -> st.SearchStrategy[list[Op]]:
    """Settlement programs of one run, over so few keys that they meet: conflicts, guards and nested branches included.

    Every record of a program has a value of its own, beginning with `mark`: an equal one is there only if the same
    program was settled before.
    """
    keys = st.integers(0, 5).map(lambda number: Key(run, f"o.{number}"))
    barriers = st.integers(0, 2).map(lambda number: Key(run, f"b.{number}"))
    parcels = st.integers(0, 5).map(lambda number: Parcel(f"{run}:{number}", lane, b"body"))
    plain: st.SearchStrategy[Op] = st.one_of(
        st.builds(Once, keys, st.just(b"")),
        st.builds(Put, keys.map(lambda key: Key(run, f"v{key.name}")), st.just(b"v")),
        st.builds(Open, barriers, st.integers(1, 3), st.integers(0, 1), st.booleans()),
        st.builds(Guard, st.tuples(keys)),
        parcels.map(lambda parcel: Publish((parcel,))),
    )

    def nested(inner: st.SearchStrategy[Op]) -> st.SearchStrategy[Op]:
        several = st.lists(inner, max_size=3)
        return st.one_of(
            several.map(Do),
            st.builds(Arrive, barriers, st.integers(0, 2), st.integers(0, 1), several, several),
        )

    ops = st.lists(st.recursive(plain, nested, max_leaves=max_leaves), max_size=6)
    return ops.map(lambda program: _numbered(program, mark, itertools.count()))


def _numbered(ops: Sequence[Op], mark: str, numbers: Iterator[int]) -> list[Op]:
    """Give each record a value of its own."""
    found: list[Op] = []
    for op in ops:
        match op:
            case Once():
                found.append(Once(op.key, f"{mark}{next(numbers)}".encode()))
            case Do():
                found.append(Do(_numbered(op.ops, mark, numbers)))
            case Arrive():
                ok, err = _numbered(op.then_ok, mark, numbers), _numbered(op.then_err, mark, numbers)
                found.append(Arrive(op.key, op.slot, op.failed, ok, err))
            case _:
                found.append(op)
    return found


def examples(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """Return so many examples, the same ones on every run."""
    found: list[T] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(strategy)
    def collect(example: T) -> None:
        found.append(example)

    collect()
    return found[:count]
