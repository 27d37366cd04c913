"""C3, C8, C10, C16, H1 to H6, M4 to M6, M12 and M14: each finding of the review of the protocol, on memory and SQLite.

M4, M5 and M6 are about SQLite's clock, file and wake-up; their own tests are in backends/sqlite/tests.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from motet import Context, Motet, NotSupported, TaskCancelled, TaskFailed, UnknownRun, chain, chord, group, injected
from motet.canvas.records import control
from motet.message import VERSION, Key, Message, Order, Parcel, Place, pack
from motet.options import CONTROL, Lane
from motet.program import Open

LANE = Lane("default", "medium", 1)


async def quiet(app: Motet) -> None:
    with anyio.fail_after(10):
        while any(info.ready or info.held for info in await app.backend.transport.queues()):
            await anyio.sleep(0.01)


async def take(app: Motet, lanes: Any = (LANE,), limit: int = 10) -> Any:
    return await app.backend.transport.receive(lanes, limit, timedelta(seconds=2))


@pytest.fixture
def add(app: Motet, calls: list[Any]) -> Any:
    @app.task(name="here:add")
    async def add(x: int, y: int) -> int:
        calls.append((x, y))
        return x + y

    return add


@pytest.fixture
def total(app: Motet, calls: list[Any]) -> Any:
    @app.task(name="here:total")
    async def total(values: list[int]) -> int:
        calls.append(values)
        return sum(values)

    return total


async def test_c3_a_suspect_message_looks_before_it_runs(app: Motet, add: Any, calls: list[Any]) -> None:
    async with app:
        run = await (add.s(1, 1) | add.s(1)).submit()
        control = await take(app, (CONTROL,)) if not app.backend.capabilities.atomic else []
        await app.backend.transport.release(control)
        async with app.worker():
            assert await run.result(5) == 3
            await quiet(app)
            copy = Message(VERSION, Order.RUN, run.id, "", 1)
            await app.backend.transport.publish([Parcel(f"{run.id}:copy", LANE, pack(copy), suspect=True)])
            await quiet(app)

    assert calls == [(1, 1), (2, 1)]


async def test_c3_what_comes_through_timers_is_suspect(app: Motet, add: Any) -> None:
    async with app:
        await add.s(1, 1).submit(delay=0.05)
        (delivery,) = await take(app)
        assert delivery.suspect


async def test_c8_a_plan_is_advanced_by_a_worker_that_knows_none_of_its_tasks(
    app: Motet, make: Callable[..., Motet], add: Any, total: Any
) -> None:
    async with app:
        run = await chord([add.s(n, n) for n in range(40)], total.s()).submit()
        stranger = Motet("memory://", lease=1)
        stranger.attach(app.backend)
        worker = stranger.make_worker(queues=("nothing",), burst=True, lease_thread=False)
        await worker.serve()
        infos = {info.queue: info for info in await app.backend.transport.queues()}
        assert infos["default"].ready == 40
        async with app.worker():
            assert await run.result(5) == sum(2 * n for n in range(40))


async def test_c10_broker_counts_are_only_a_hint(app: Motet, add: Any) -> None:
    async with app:
        run = await add.s(1, 1).submit()
        for _ in range(5):
            (delivery,) = await take(app)
            await app.backend.transport.release([delivery])
        (delivery,) = await take(app)
        assert delivery.deliveries == 1
        await app.backend.transport.release([delivery])
        async with app.worker():
            assert await run.result(5) == 2


async def test_c10_a_message_that_came_back_runs_alone_and_its_strikes_decide(make: Callable[..., Motet]) -> None:
    app = make(lease=0.1)
    running: list[int] = []
    alone: list[int] = []

    @app.task
    async def task(n: int) -> int:
        running.append(n)
        alone.append(len(running))
        await anyio.sleep(0.01)
        running.remove(n)
        return n

    async with app:
        runs = await app.submit_many([task.s(n) for n in range(3)])
        taken = await take(app)
        assert len(taken) == 3
        for _ in range(2):
            await app.backend.transport.strike(taken[0])
        await anyio.sleep(0.15)
        async with app.worker(concurrency=10):
            with pytest.raises(TaskFailed, match="died 3 times"):
                await runs[0].result(5)
            assert [await run.result(5) for run in runs[1:]] == [1, 2]

    assert alone == [1, 1]


async def test_c16_a_cancel_is_one_durable_message_and_needs_no_client(app: Motet, add: Any, total: Any) -> None:
    async with app:
        run = await (group(add.s(1, 1).set(delay=60), add.s(2, 2)) | total.s()).submit()
        if not app.backend.capabilities.atomic:
            async with app.worker(burst=True):
                await quiet(app)
        await app.backend.transport.publish([control(Message(VERSION, Order.CANCEL, run.id, "", 2))])
        async with app.worker():
            with pytest.raises(TaskFailed) as caught:
                await run.result(5)

    assert [cause.kind for cause in caught.value.error.causes] == ["cancelled"]


async def test_c16_a_run_that_never_started_is_swept_by_its_janitor(app: Motet, add: Any, url: str) -> None:
    async with app:
        prepared = app.submitter.prepare(group(add.s(n, n) for n in range(600)), {})
        await app.submitter.store_pages(prepared)
        names = await app.backend.store.names(prepared.run, "p.")
        assert len(names) == 3
        await app.backend.transport.publish([control(Message(VERSION, Order.JANITOR, prepared.run, attempt=2))])
        async with app.worker():
            with anyio.fail_after(5):
                while await app.backend.store.names(prepared.run, ""):
                    await anyio.sleep(0.01)


async def test_h1_failures_are_counted_through_parts(app: Motet) -> None:
    @app.task
    async def number(n: int) -> int:
        if n % 100 == 0:
            raise ValueError
        return n

    members = group(number.s(n) for n in range(600))
    async with app, app.worker():
        enough = await members.policy("wait", min_success=594).submit()
        assert len(await enough.result(15)) == 600
        short = await members.policy("wait", min_success=595).submit()
        with pytest.raises(TaskFailed):
            await short.result(15)
        assert (await short.completed_count(), await short.successful_count()) == (600, 594)


async def test_h2_pages_form_a_tree_of_at_most_256_and_256_kib(app: Motet) -> None:
    @app.task
    async def size(text: str) -> int:
        return len(text)

    async with app:
        term = group(size.s("x" * 3000) for _ in range(700))
        prepared = app.submitter.prepare(term, {})
        pages = [prepared.compiled.first, *prepared.compiled.rest]
        assert len(pages) == 3
        assert all(len(page.body) <= 256 * 1024 for page in pages)
        assert sum(len(page.values) for page in pages) > 0
        wide = app.submitter.prepare(group(size.s("x") for _ in range(70_000)), {})
        group_node = wide.plan.node(Place("", 0))
        assert group_node.count == 2  # type: ignore[union-attr]  # it is a group: 70,000 under two parts of parts
        async with app.worker():
            assert await (await term.submit()).result(15) == [3000] * 700


async def test_h2_a_large_input_of_a_wide_group_goes_by_reference(app: Motet) -> None:
    @app.task
    async def text() -> str:
        return "x" * 8000

    @app.task
    async def size(text: str) -> int:
        return len(text)

    sizes: list[int] = []
    async with app:
        receive = app.backend.transport.receive

        async def measured(*args: Any) -> Any:
            taken = await receive(*args)
            sizes.extend(len(each.body) for each in taken if each.lane == LANE)
            return taken

        transport: Any = app.backend.transport
        transport.receive = measured
        async with app.worker():
            assert await (await (text.s() | group(size.s() for _ in range(100))).submit()).result(5) == [8000] * 100

    assert max(sizes) < 200


async def test_h3_every_record_of_a_run_is_swept_with_it_and_none_before(make: Callable[..., Motet]) -> None:
    app = make(result_ttl=0.3)

    @app.task
    async def text(n: int) -> str:
        return "x" * 20_000

    @app.task
    async def lengths(texts: list[str], ctx: Context = injected) -> Any:
        return ctx.replace(group(text.si(1), text.si(2)))

    async with app, app.worker():
        run = await (group(text.s(n) for n in range(3)) | lengths.s()).submit()
        assert [len(each) for each in await run.result(5)] == [20_000] * 2
        names = await app.backend.store.names(run.id, "")
        assert {name[:2] for name in names} >= {"o.", "p.", "v.", "s.", "r"}
        with anyio.fail_after(5):
            while await app.backend.store.names(run.id, ""):
                await anyio.sleep(0.02)
        with pytest.raises(UnknownRun):
            await app.handle(run.id).result(1)


async def test_h4_callbacks_and_spawns_are_runs_of_their_own(make: Callable[..., Motet], calls: list[Any]) -> None:
    app = make(result_ttl=0.2)
    gate = anyio.Event()

    @app.task
    async def parent(ctx: Context = injected) -> list[str]:
        ctx.spawn(note.s("detached"))
        return ["x" * 100] * 300

    @app.task
    async def note(name: str) -> None:
        await gate.wait()
        calls.append(name)

    @app.task
    async def sized(value: list[str]) -> None:
        await gate.wait()
        calls.append(len(value))

    async with app, app.worker():
        run = await group(parent.s()).on_success(note.si("callback")).submit()
        big = await parent.s().on_success(sized.s()).submit()
        await run.result(5)
        await big.result(5)
        await anyio.sleep(0.5)
        # The parent's time is up, but a callback still reads from it.
        assert await app.backend.store.names(big.id, "v.")
        gate.set()
        await quiet(app)

    assert sorted(map(str, calls)) == ["300", "callback", "detached", "detached"]


async def test_h5_an_id_given_twice_is_one_run_while_it_lasts_and_after(
    make: Callable[..., Motet], calls: list[Any]
) -> None:
    app = make(result_ttl=0.2)

    @app.task
    async def note(n: int) -> int:
        calls.append(n)
        return n

    async with app, app.worker():
        first = await note.s(1).submit(id="chosen")
        second = await note.s(2).submit(id="chosen")
        assert first == second
        assert await second.result(5) == 1
        third = await note.s(3).submit(unique="customer 7")
        assert (await note.s(4).submit(unique="customer 7")).id == third.id
        assert await third.result(5) == 3
        with anyio.fail_after(5):
            while await app.backend.store.names("chosen", "o."):
                await anyio.sleep(0.02)
        await note.s(5).submit(id="chosen")
        await quiet(app)

    assert calls == [1, 3]


async def test_h6_a_cancelled_run_starts_nothing_a_second_later_and_continues_nothing(
    app: Motet, calls: list[Any]
) -> None:
    started = anyio.Event()

    @app.task
    async def slow() -> None:
        started.set()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.2)
        calls.append("end of step 1")

    @app.task
    async def note(name: str) -> None:
        calls.append(name)

    async with app, app.worker():
        run = await chain(slow.si(), note.si("step 2")).submit()
        later = await note.s("later").submit(delay=1.2)
        await started.wait()
        await run.cancel("enough")
        await later.cancel()
        with pytest.raises(TaskCancelled, match="enough"):
            await run.result(5)
        await anyio.sleep(1.5)
        await quiet(app)
        with pytest.raises(TaskCancelled):
            await later.result(0)

    assert "step 2" not in calls
    assert "later" not in calls


async def test_m12_counting_a_wide_group_reads_barriers_not_members(app: Motet) -> None:
    @app.task
    async def number(n: int) -> int:
        return n

    async with app, app.worker():
        run = await group(number.s(n) for n in range(2000)).submit()
        await run.result(20)
        reads = 0
        get = app.backend.store.get

        async def counting_get(keys: Any) -> Any:
            nonlocal reads
            reads += len([key for key in keys if key.name.startswith("o.")])
            return await get(keys)

        store: Any = app.backend.store
        store.get = counting_get
        status = await run.status()

    assert (status.total, status.completed_count) == (2000, 2000)
    assert reads <= 2


async def test_m14_memory_says_that_other_processes_cannot_see_it() -> None:
    async with Motet("memory://") as app:
        with pytest.raises(NotSupported, match="shared"):
            app.client.shared("motet run show")


async def test_a_barrier_that_was_swept_is_closed(app: Motet) -> None:
    async with app:
        key = Key("run", "b.0")
        await app.backend.store.open([Open(key, 2)])
        while not await app.backend.store.sweep("run", 10):
            pass
        assert await app.backend.store.arrive(key, 0, 0) is None
        assert await app.backend.store.barriers([key]) == [None]
