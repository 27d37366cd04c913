"""L1 to L12: each law on the pure engine, and with fewer examples on every backend with a real worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engines import Engine, PureEngine, engine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motet import Term, chain, chord, group, signature
from motet.conformance.algebra import Err, Meaning, Ok, boom, denote, identity, leaf
from motet.conformance.strategies import terms

few = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
term = terms(max_leaves=8)
sure = terms(failing=False, max_leaves=6)


@pytest.fixture(scope="module", params=["pure", "memory", "ordered", "sqlite"])
def engines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "sqlite":
        pytest.importorskip("motet_sqlite")
    with engine(request.param, tmp_path_factory.mktemp("laws")) as opened:
        yield opened


def law(**values: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[[Engine], None]]:
    """Make a property of a law: with the profile's examples on the pure engine, with 12 on the others."""

    def made(check: Callable[..., None]) -> Callable[[Engine], None]:
        def run(engines: Engine) -> None:
            prepared = given(**values)(check)
            (prepared if isinstance(engines, PureEngine) else few(prepared))(engines)

        run.__name__ = check.__name__
        return run

    return made


def fed(x: Term[Any, Any]) -> Term[Any, Any]:
    """Give a term an input."""
    term: Term[Any, Any] = leaf.si("in") | x
    return term


def same(engines: Engine, a: Term[Any, Any], b: Term[Any, Any]) -> None:
    """Two terms mean the same, and the engine finds that meaning for both."""
    meaning = denote(a)
    assert denote(b) == meaning
    assert engines.evaluate(a) == meaning
    assert engines.evaluate(b) == meaning


def agrees(engines: Engine, x: Term[Any, Any], meaning: Meaning) -> None:
    assert engines.evaluate(x) == meaning


@law(x=term)
def test_every_term_has_the_value_that_its_shape_says(engines: Engine, x: Term[Any, Any]) -> None:
    agrees(engines, x, denote(x))


@law(a=term, b=term, c=term)
def test_l1_chains_associate(engines: Engine, a: Any, b: Any, c: Any) -> None:
    assert (a | b) | c == a | (b | c) == chain(a, chain(b, c))
    same(engines, (a | b) | c, a | (b | c))


@law(a=term)
def test_l2_the_empty_chain_is_the_identity(engines: Engine, a: Any) -> None:
    assert chain(a) == a
    same(engines, fed(chain() | a), fed(a))
    same(engines, fed(a | chain()), fed(a))
    same(engines, fed(group(chain(), a)), leaf.si("in") | group(identity.s(), a))


@law(h=st.lists(term, max_size=4), b=sure)
def test_l3_a_chord_is_a_group_before_its_body(engines: Engine, h: Any, b: Any) -> None:
    assert chord(h, b) == group(h) | b
    agrees(engines, chord(h, b), denote(group(h) | b))


@law(first=st.lists(sure, max_size=3), second=st.lists(sure, max_size=3))
def test_l4_every_member_of_a_second_group_gets_the_whole_list(engines: Engine, first: Any, second: Any) -> None:
    values = [denote(each) for each in first]
    if any(isinstance(value, Err) for value in values):
        return
    whole = [value.value for value in values if isinstance(value, Ok)]
    agrees(
        engines,
        group(first) | group(second),
        Ok([each.value for x in second if isinstance(each := denote(x, (whole,)), Ok)]),
    )


@law(a=sure, b=sure, c=sure)
def test_l5_groups_never_flatten(engines: Engine, a: Any, b: Any, c: Any) -> None:
    value_a, value_b, value_c = (denote(each) for each in (a, b, c))
    assert isinstance(value_a, Ok) and isinstance(value_b, Ok) and isinstance(value_c, Ok)
    agrees(engines, group(a, group(b, c)), Ok([value_a.value, [value_b.value, value_c.value]]))


@law(a=sure)
def test_l6_a_group_of_one_is_a_list_of_one(engines: Engine, a: Any) -> None:
    value = denote(a)
    assert isinstance(value, Ok)
    agrees(engines, group(a), Ok([value.value]))
    agrees(engines, group(a) | identity.s(), Ok([value.value]))
    agrees(engines, chain(leaf.si(1), group(a), identity.s()), denote(leaf.si(1) | group(a)))


@law(a=sure)
def test_l7_an_empty_group_is_an_empty_list_and_is_never_skipped(engines: Engine, a: Any) -> None:
    agrees(engines, group(), Ok([]))
    agrees(engines, group() | identity.s(), Ok([]))
    agrees(engines, a | group(), Ok([]))
    agrees(engines, a | group() | identity.s(), Ok([]))


@law(a=sure.filter(lambda a: a != chain()), before=st.booleans(), after=sure)
def test_l8_a_term_of_equal_value_may_stand_for_a_leaf(engines: Engine, a: Any, before: Any, after: Any) -> None:
    value = denote(a)
    assert isinstance(value, Ok)
    stand_in = identity.si(value.value)
    around = (lambda x: group(x, after) | identity.s()) if before else (lambda x: x | after)
    same(engines, around(a), around(stand_in))


@law(a=sure, name=st.integers(-9, 9))
def test_l9_an_immutable_step_runs_after_and_drops_its_input(engines: Engine, a: Any, name: int) -> None:
    agrees(engines, a | leaf.si(name), Ok([name]))
    same(engines, a >> leaf.partial(name), a | leaf.si(name))
    same(engines, a >> group(leaf.partial(name), leaf.partial(2)), a | group(leaf.si(name), leaf.si(2)))


@law(x=term)
def test_l10_the_outcome_depends_on_the_term_only(engines: Engine, x: Any) -> None:
    assert engines.evaluate(x) == engines.evaluate(signature(json.loads(json.dumps(x.to_mapping()))))


@law(a=sure, b=sure, c=term)
def test_l11_a_decorated_chain_stays_a_scope_and_has_the_same_value(engines: Engine, a: Any, b: Any, c: Any) -> None:
    scope = chain(a, b).on_failure(leaf.partial("handler"))
    composed = chain(c, scope)
    assert composed == scope or scope in composed.children
    same(engines, chain(c, scope), chain(c, a, b))


@law(a=term, b=term)
def test_l12_composing_never_changes_its_operands(engines: Engine, a: Any, b: Any) -> None:
    before = a.to_mapping(), b.to_mapping()
    composed = [a | b, a >> b, group(a, b), a.recover(b), a.within(5), a.set(queue="other"), a.on_failure(b)]
    assert (a.to_mapping(), b.to_mapping()) == before
    agrees(engines, composed[2], denote(group(a, b)))


def test_a_failure_names_every_failed_leaf_in_order(engines: Engine) -> None:
    x = group(boom.partial("a"), leaf.si(1), leaf.si(1) | group(leaf.si(2), boom.partial("b")), boom.partial("c"))

    agrees(engines, x | leaf.partial("never"), Err(("a", "b", "c")))
