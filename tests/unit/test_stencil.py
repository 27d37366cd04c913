"""A single call has no plan made for it; its message must be the very one that a plan gives."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from motet import Motet, Priority, Size
from motet.canvas import advance
from motet.canvas.compile import INLINE
from motet.canvas.terms import Signature
from motet.message import Parcel

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CUT = b"\xc1" * 20


class Fixed:
    """Ids that are known beforehand."""

    def new(self) -> str:
        return "run"


@pytest.fixture
async def app() -> AsyncIterator[Motet]:
    async with Motet("memory://", ids=Fixed()) as app:
        yield app


def define(app: Motet, **options: Any) -> tuple[Any, Any]:
    @app.task(name="plain")
    async def plain(x: object = None, *more: object, **named: object) -> None: ...

    @app.task(name="special", **options)
    def special(x: bytes) -> None: ...

    return plain, special


def planned(app: Motet, term: Signature[Any, Any]) -> Parcel:
    return advance.called(app.submitter.prepare(term).plan, NOON)


async def test_a_single_call_has_the_message_that_its_plan_gives(app: Motet) -> None:
    options = {"queue": "mail", "priority": Priority.REALTIME, "size": Size.LARGE, "timeout": 2.5, "result_ttl": 0}
    plain, special = define(app, dlq_eligible=True, **options)

    for term in (plain.s(), plain.s(1), plain.si(CUT, 2, named=[CUT]), special.s(b"x" * 300), special.s(CUT)) * 2:
        assert app.submitter.single(term) == ("run", planned(app, term))


async def test_whatever_is_more_than_that_has_a_plan(app: Motet) -> None:
    plain, special = define(app)
    more = [
        plain.s(1).set(queue="other"),
        plain.s(1).on_success(plain.s()),
        plain.s(1).within(3),
        plain.map([1, 2]),
        plain.s(1) | plain.s(),
        special.s(b"x" * (INLINE + 1)),
    ]

    assert [app.submitter.single(term) for term in more] == [None] * len(more)


async def test_a_task_that_is_registered_again_is_not_sent_as_it_was(app: Motet) -> None:
    _, special = define(app, queue="mail")
    before = app.submitter.single(special.s(b""))
    _, special = define(app, queue="post")

    after = app.submitter.single(special.s(b""))

    assert before is not None and after is not None
    assert (before[1].lane.queue, after[1].lane.queue) == ("mail", "post")
