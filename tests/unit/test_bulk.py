"""`submit_many`: many runs at once, checked before any is sent, from terms that are let go."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest

from motet import Motet, Unavailable, UsageError, group
from motet.canvas.terms import Signature
from motet.message import Parcel

WIDE = 1000
"""Members of a group that has more than one page."""


def define(app: Motet) -> Any:
    @app.task(name="double")
    async def double(x: int) -> int:
        return 2 * x

    return double


async def queued(app: Motet) -> int:
    return sum(info.ready for info in await app.backend.transport.queues())


async def test_handles_come_in_the_order_of_the_terms_whatever_they_are() -> None:
    async with Motet("memory://") as app:
        double = define(app)
        terms = [
            double.s(1),
            group(double.s(2), double.s(3)),
            double.s(4).set(queue="default"),
            double.s(5) | double.s(),
        ]
        handles = await app.submit_many(terms)
        await app.make_worker(burst=True).serve()

        assert [await handle.result(5) for handle in handles] == [2, [4, 6], 8, 20]


@pytest.mark.parametrize("wide", [False, True])
async def test_nothing_is_sent_when_one_term_is_wrong(wide: bool) -> None:
    async with Motet("memory://") as app:
        double = define(app)
        first = group(double.s(n) for n in range(WIDE)) if wide else double.s(1)

        with pytest.raises(UsageError, match="still needs x"):
            await app.submit_many([first, double.partial()])

        assert await queued(app) == 0


async def test_a_backend_that_does_not_confirm_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Motet("memory://", publish_timeout=0.05) as app:
        double = define(app)

        async def silent(parcels: Sequence[Parcel]) -> None:
            await anyio.sleep_forever()

        monkeypatch.setattr(app.backend.transport, "publish", silent)

        with pytest.raises(Unavailable, match="not confirmed"):
            await app.submit_many([double.s(1)])


async def test_a_term_is_let_go_before_the_next_one_is_made() -> None:
    async with Motet("memory://") as app:
        living: list[weakref.ref[Any]] = []
        most = 0

        class Watched(list[int]):
            """An argument that can be watched."""

        def made() -> Iterator[Signature[Any, Any]]:
            nonlocal most
            for n in range(5):
                gc.collect()
                most = max(most, sum(each() is not None for each in living))
                argument = Watched([n])
                living.append(weakref.ref(argument))
                yield total.s(argument)

        @app.task(name="total")
        async def total(numbers: list[int]) -> int:
            return sum(numbers)

        assert len(await app.submit_many(made())) == 5
        assert most <= 2
