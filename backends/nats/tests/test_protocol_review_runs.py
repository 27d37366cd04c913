"""The findings of the protocol's review that are about whole runs on NATS, each by its number."""

from __future__ import annotations

from itertools import count

import anyio
import pytest
from nats_server import RunningServer

from motet import Context, Motet, group, injected
from motet.errors import TaskCancelled, TaskFailed
from motet.failpoints import hit
from motet.ports import Settings
from motet_nats import NatsBackend
from motet_nats import open as open_nats
from motet_nats.names import token

pytestmark = pytest.mark.timeout(60)
numbers = count()


@pytest.fixture
def settings() -> Settings:
    return Settings(namespace=f"runs{next(numbers)}")


async def test_c16_a_client_that_dies_before_it_starts_a_wide_run_leaves_what_is_swept_or_started_by_another_call(
    server: RunningServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):
        pass

    def die(name: str) -> None:
        if name == "before_start":
            raise Died

    app = Motet(server.url, namespace=settings.namespace, lease=1)

    @app.task(name="tests:one")
    async def one(x: str) -> int:
        return len(x)

    wide = group(one.s("x" * 1000) for _ in range(600))
    async with app:
        monkeypatch.setattr("motet.engine.submit.hit", die)
        with pytest.raises(Died):
            await wide.submit(id="chosen")
        monkeypatch.setattr("motet.engine.submit.hit", hit)
        assert await app.backend.store.names("chosen", "")
        assert await app.backend.transport.find(["chosen"]) == ["parked"]  # whoever is to sweep what never starts

        again = await wide.submit(id="chosen")
        async with app.worker():
            assert await again.result(timeout=15) == [1000] * 600


async def test_c16_h3_a_run_that_is_swept_leaves_nothing_and_a_cancelled_one_ends(
    server: RunningServer, settings: Settings
) -> None:
    app = Motet(server.url, namespace=settings.namespace, result_ttl=0.3, lease=1)

    @app.task(name="tests:boom")
    async def boom(x: int) -> int:
        raise ValueError(x)

    @app.task(name="tests:large")
    async def large(size: int) -> str:
        return "x" * size

    @app.task(name="tests:size")
    async def size(given: str) -> int:
        return len(given)

    async with app, app.worker():
        failed = await group(boom.s(1), large.s(10)).submit()
        with pytest.raises(TaskFailed):
            await failed.result(timeout=10)
        parts = await (large.s(2_500_000) | size.s()).submit()
        assert await parts.result(timeout=10) == 2_500_000
        parked = await boom.s(1).submit(delay=60)
        await parked.cancel()
        with pytest.raises(TaskCancelled):
            await parked.result(timeout=10)
        async with open_nats(server.url, settings) as backend:
            with anyio.fail_after(20):
                while await remains(backend, failed.id, parts.id):
                    await anyio.sleep(0.1)


async def remains(backend: NatsBackend, *runs: str) -> list[str]:
    """What is in the streams of some runs."""
    names = backend.client.names
    kept = await backend.streams.subjects(names.records, f"{names.kept}.>")
    sent = await backend.streams.subjects(names.messages, f"{names.letters}.>")
    tokens = {token(run) for run in runs}
    return [subject for subject in (*kept, *sent) if tokens.intersection(subject.split("."))]


async def test_h4_what_a_run_has_spawned_outlives_its_sweep(server: RunningServer, settings: Settings) -> None:
    app, told = Motet(server.url, namespace=settings.namespace, lease=1), list[str]()

    @app.task(name="tests:slow")
    async def slow(ctx: Context = injected) -> None:
        await anyio.sleep(1.5)
        told.append(ctx.run_id)

    @app.task(name="tests:spawner")
    async def spawner(ctx: Context = injected) -> int:
        ctx.spawn(slow.s())
        return 1

    @app.task(name="tests:next")
    async def after(given: int) -> int:
        return given

    async with app, app.worker():
        run = await (spawner.s() | after.s()).submit(result_ttl=0.2)
        assert await run.result(timeout=10) == 1
        with anyio.fail_after(10):
            while await app.backend.store.names(run.id, ""):
                await anyio.sleep(0.05)
        assert told == []
        with anyio.fail_after(10):
            while not told:
                await anyio.sleep(0.05)

    assert told != [run.id]


async def test_h5_an_id_of_the_user_is_one_run_also_after_its_end_and_its_sweep(
    server: RunningServer, settings: Settings
) -> None:
    app, ran = Motet(server.url, namespace=settings.namespace, lease=1), list[int]()

    @app.task(name="tests:note")
    async def note(x: int) -> int:
        ran.append(x)
        return x

    async with app, app.worker():
        for number in range(3):
            run = await note.s(number).submit(id="chosen", result_ttl=0.2)
            if not number:
                assert await run.result(timeout=10) == 0
                with anyio.fail_after(10):
                    while await app.backend.store.names("chosen", ""):
                        await anyio.sleep(0.05)
        await anyio.sleep(0.5)  # for what should not come

    assert ran == [0]


async def test_h6_nothing_of_a_cancelled_run_starts_a_second_after_the_cancel(
    server: RunningServer, settings: Settings
) -> None:
    """Its members wait in the lane of a busy worker, which reads no record before it starts one."""
    app, started = Motet(server.url, namespace=settings.namespace, lease=2), list[float]()

    @app.task(name="tests:nap")
    async def nap() -> None:
        started.append(anyio.current_time())
        await anyio.sleep(0.05)

    async with app, app.worker(concurrency=2):
        run = await group(nap.s() for _ in range(200)).submit()
        with anyio.fail_after(10):
            while len(started) < 5:
                await anyio.sleep(0.01)
        await run.cancel()
        cancelled = anyio.current_time()
        with pytest.raises(TaskCancelled):
            await run.result(timeout=10)
        await anyio.sleep(1.5)

    assert len(started) < 200
    assert max(started) < cancelled + 1
