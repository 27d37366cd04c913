"""What a worker keeps of a plan between two messages of a run, and what that must not change."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from motet import Motet, chain, group
from motet.canvas import advance, flow
from motet.canvas import compile as compile_module
from motet.canvas import plan as plan_module
from motet.canvas.compile import Origin, compile_term
from motet.canvas.plan import PagesNeeded, Plan
from motet.canvas.terms import Term
from motet.engine.plans import KEPT, Plans
from motet.message import Key, Place, Record, State
from motet.program import Arrive, Op, Publish

app = Motet("memory://")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OK = Record(State.OK, b"\x01")


@app.task(name="noop")
async def noop(x: int = 0) -> int:
    return x


@app.task(name="total")
async def total(numbers: list[int]) -> int:
    return sum(numbers)


class Shelf:
    """A store of pages that counts what is read."""

    def __init__(self, term: Term[Any, Any]) -> None:
        compiled = compile_term(term, Origin(run="run"), app.registry, ttl=60.0)
        self.pages = [page.body for page in (compiled.first, *compiled.rest)]
        self.read: list[int] = []

    async def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        numbers = [int(key.name.rpartition(".")[2]) for key in keys]
        self.read += numbers
        await anyio.lowlevel.checkpoint()
        return [self.pages[number] for number in numbers]

    def plans(self) -> Plans:
        store: Any = self
        return Plans(store)

    def plan(self) -> Plan:
        plan = Plan("run")
        for number, body in enumerate(self.pages):
            plan.add("", number, body)
        return plan


def decide(place: Place, plan: Plan) -> list[Op]:
    return advance.decided(plan, place, OK, NOON)


def arrival(plan: Plan, node: int, now: datetime) -> Arrive:
    (found,) = (op for op in advance.decided(plan, Place("", node), OK, now) if isinstance(op, Arrive))
    return found


def dues(ops: Sequence[Op]) -> list[datetime | None]:
    return [parcel.due for op in ops if isinstance(op, Publish) for parcel in op.parcels]


def test_what_follows_a_group_is_worked_out_once_for_its_members_in_a_second() -> None:
    plan = Shelf(group(noop.s(n) for n in range(40))).plan()

    first = arrival(plan, 1, NOON)
    second = arrival(plan, 2, NOON + timedelta(milliseconds=999))

    assert second.then_ok is first.then_ok
    assert second.then_err is first.then_err


def test_a_plan_that_was_used_before_answers_like_a_new_one() -> None:
    shelf = Shelf(group(group(noop.s(n) for n in range(3)) for _ in range(3)) | total.si([1]).set(delay=5))
    used = shelf.plan()

    for node, milliseconds in [(3, 0), (4, 400), (3, 900), (7, 1100), (8, 1100), (9, 2500), (3, 2500)]:
        now = NOON + timedelta(milliseconds=milliseconds)
        assert advance.decided(used, Place("", node), OK, now) == advance.decided(
            shelf.plan(), Place("", node), OK, now
        )


def test_records_are_kept_for_at_least_their_time() -> None:
    plan = Shelf(group(noop.s(n) for n in range(3))).plan()
    now = NOON + timedelta(milliseconds=750)

    (due,) = dues(arrival(plan, 1, now).then_ok)

    assert due is not None
    assert timedelta(seconds=60) <= due - now <= timedelta(seconds=61)


def test_a_delay_counts_from_the_very_moment() -> None:
    plan = Shelf(chain(group(noop.s(1), noop.s(2)), total.s().set(delay=5))).plan()

    for milliseconds in (0, 10, 990):
        now = NOON + timedelta(milliseconds=milliseconds)
        assert dues(arrival(plan, 2, now).then_ok) == [now + timedelta(seconds=5)]


async def test_messages_of_a_run_share_its_pages() -> None:
    shelf = Shelf(group(noop.s(n) for n in range(300)))
    plans = shelf.plans()

    for place in (Place("", 299), Place("", 298)):
        await plans.ask(plans.of("run"), partial(decide, place))

    assert sorted(shelf.read) == [0, 1]


async def test_a_page_that_travelled_with_its_message_is_not_kept() -> None:
    shelf = Shelf(noop.s(1))
    plans = shelf.plans()

    plan = plans.of("run", "", shelf.pages[0])

    assert plan.pages
    assert not plans.kept


async def test_few_pages_are_kept_and_a_question_may_need_more() -> None:
    shelf = Shelf(group(noop.s(n) for n in range(60_000)))
    plans = shelf.plans()
    plan = plans.of("run")

    ops = await plans.ask(plan, lambda known: advance.expand(known, Place("", 0), advance.NO_INPUT, NOON))

    assert len(ops) > 64
    assert sum(len(page.nodes) for page in plan.pages.values()) > KEPT
    assert sum(len(page.nodes) for kept in plans.kept.values() for page in kept.pages.values()) <= KEPT


async def test_messages_of_a_run_that_need_the_same_page_read_it_once() -> None:
    shelf = Shelf(group(noop.s(n) for n in range(300)))
    plans = shelf.plans()

    async def ask() -> None:
        await plans.ask(plans.of("run"), lambda known: known.node(Place("", 3)))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)

    assert shelf.read == [0]


async def test_plans_without_pages_are_let_go_too() -> None:
    plans = Shelf(noop.s(1)).plans()

    for number in range(KEPT + 100):
        plans.of(f"run{number}")

    assert len(plans.kept) <= KEPT


def test_a_page_that_is_missing_is_asked_for() -> None:
    plan = Plan("run")

    with pytest.raises(PagesNeeded) as needed:
        plan.node(Place("", 300))

    assert needed.value.keys == (("", 1),)


@pytest.mark.parametrize("width", range(40))
def test_every_node_spans_exactly_what_is_below_it(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """A group of 65,600 had one node fewer than its plan said, and what came after it was never started."""
    for module in (flow, compile_module, plan_module):
        monkeypatch.setattr(module, "FANOUT", 3)
    shelf = Shelf(chain(group(noop.si() for _ in range(width)), total.s()))
    plan = shelf.plan()

    def walk(place: Place) -> int:
        node = plan.node(place)
        below = 1 + sum(walk(child) for child, _ in plan.children(place, node))
        assert plan_module.span(node) == below
        return below

    assert walk(Place("", 0)) == plan.header("").size == sum(len(page.nodes) for page in plan.pages.values())
