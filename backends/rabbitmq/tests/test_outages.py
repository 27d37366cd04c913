"""A broker that dies or falls silent, processes that die or freeze: work flows again by itself, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from rabbitmq_server import RabbitServer

from motet import Motet, group
from motet.errors import MotetError
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Settings
from motet.program import Put
from motet_rabbitmq import open as open_rabbitmq

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
KNOWN = 1.5
"""As in test_link: seconds until a killed broker still knows its queues."""
WITHIN = 15.0
"""Seconds in which work flows again once it can: a restarted broker elects a leader for each queue."""
LANE = Lane("q", "small", 0)
SOON = timedelta(seconds=10)
WORKER = """
import anyio, os, sys
from motet import Motet
app = Motet(sys.argv[1], lease=3.0, namespace=sys.argv[3])

@app.task(name="tests:note")
async def note(number: int, seconds: float = 0.0) -> int:
    with open(sys.argv[2], "a") as file:
        file.write(f"{number} {os.getpid()}\\n")
    await anyio.sleep(seconds)
    return number

@app.task(name="tests:total")
async def total(numbers: list[int]) -> int:
    with open(sys.argv[2], "a") as file:
        file.write(f"total {os.getpid()}\\n")
    return sum(numbers)

async def main() -> None:
    async with app:
        await app.make_worker(concurrency=10).serve()

anyio.run(main)
"""


def place(server: RabbitServer) -> str:
    return f"{server.url}?shards=2&heartbeat=2"


def workers(url: str, note: Path, namespace: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, url, str(note), namespace], env={**os.environ})


@asynccontextmanager
async def flowing(url: str, namespace: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Run a worker and a client that submits all the time; yield what waits until a call comes back again."""
    app = Motet(url, lease=2, namespace=namespace)

    @app.task(name="tests:double")
    async def double(x: int) -> int:
        return 2 * x

    async def flows() -> float:
        """Return after how long a call has come back that was made from now on."""
        began = time.monotonic()
        while True:
            with suppress(MotetError):
                call = await double.delay(21)
                assert await call.result(timeout=3) == 42
                return time.monotonic() - began

    async with app, anyio.create_task_group() as tasks:
        worker = app.make_worker(concurrency=10)
        tasks.start_soon(worker.serve)
        await flows()
        yield flows
        worker.stop()


async def test_work_flows_again_soon_after_a_restart(file_server: RabbitServer) -> None:
    async with flowing(place(file_server), "restart") as flows:
        for _ in range(2):
            await anyio.sleep(KNOWN)
            await anyio.to_thread.run_sync(file_server.restart)
            assert await flows() < WITHIN


async def test_work_flows_again_soon_after_silence(file_server: RabbitServer) -> None:
    """Nothing is closed and nothing answers, as when a cable is cut: a broker that is stopped for ten seconds."""
    async with flowing(place(file_server), "silence") as flows:
        file_server.pause()
        await anyio.sleep(10)  # the fault itself
        file_server.go_on()
        assert await flows() < WITHIN


async def test_groups_survive_killed_workers_and_a_killed_broker(file_server: RabbitServer, tmp_path: Path) -> None:
    app, notes = Motet(place(file_server), lease=3.0, namespace="killed"), tmp_path / "notes"

    @app.task(name="tests:note")
    async def note(number: int, seconds: float = 0.0) -> int:
        raise AssertionError

    @app.task(name="tests:total")
    async def total(numbers: list[int]) -> int:
        raise AssertionError

    running = [workers(place(file_server), notes, "killed") for _ in range(2)]
    try:
        async with app:
            runs = [await (group(note.s(n, 0.02) for n in range(10)) | total.s()).submit() for _ in range(10)]
            for turn in range(4):
                await anyio.sleep(KNOWN)
                running[turn % 2].kill()
                running[turn % 2].wait()
                running[turn % 2] = workers(place(file_server), notes, "killed")
                if turn == 1:
                    await anyio.to_thread.run_sync(file_server.restart)
            assert [await run.result(timeout=60) for run in runs] == [45] * 10
            with anyio.fail_after(30):
                while any(info.ready or info.held for info in await app.backend.transport.queues()):
                    await anyio.sleep(0.1)
    finally:
        for each in running:
            each.kill()
            each.wait()


async def test_h7_others_go_on_when_the_owner_of_the_shards_is_frozen(
    file_server: RabbitServer, tmp_path: Path
) -> None:
    app, notes = Motet(place(file_server), lease=3.0, namespace="frozen"), tmp_path / "notes"

    @app.task(name="tests:note")
    async def note(number: int, seconds: float = 0.0) -> int:
        raise AssertionError

    notes.touch()
    running = [workers(place(file_server), notes, "frozen")]
    try:
        async with app:
            assert await (await note.delay(0)).result(timeout=20) == 0
            running.append(workers(place(file_server), notes, "frozen"))
            await anyio.sleep(3)
            running[0].send_signal(signal.SIGSTOP)
            began = time.monotonic()
            took = 0.0
            while not took:
                with suppress(MotetError):
                    assert await (await note.delay(1)).result(timeout=5) == 1
                    took = time.monotonic() - began
            running[0].send_signal(signal.SIGCONT)
            runs = [await note.delay(number) for number in range(20)]
            assert [await run.result(timeout=20) for run in runs] == list(range(20))
    finally:
        for each in running:
            each.kill()
            each.wait()
    assert took < 25


async def test_h9_what_comes_back_because_a_connection_was_lost_goes_on_where_it_runs(
    file_server: RabbitServer,
) -> None:
    settings = Settings(namespace="adopted")
    async with (
        open_rabbitmq(place(file_server), settings) as backend,
        open_rabbitmq(place(file_server), settings) as other,
    ):
        await backend.transport.publish([Parcel("run:1", LANE, b"body")])
        [taken] = await backend.transport.receive([LANE], 1, SOON)

        backend.consuming.abort()
        assert await backend.transport.receive([LANE], 1, timedelta(seconds=2)) == []
        assert await other.transport.receive([LANE], 1, timedelta(seconds=0.5)) == []

        assert backend.transport.extend([taken.receipt]) == [True]
        await backend.transport.ack([taken])
        assert await other.transport.find(["run"]) == [None]
        assert await other.transport.receive([LANE], 1, timedelta(seconds=0.5)) == []


async def test_what_a_closed_client_held_comes_back_charged_and_suspect(file_server: RabbitServer) -> None:
    settings = Settings(namespace="closed")
    async with open_rabbitmq(place(file_server), settings) as other:
        async with open_rabbitmq(place(file_server), settings) as backend:
            await backend.transport.publish([Parcel("run:1", LANE, b"body")])
            [taken] = await backend.transport.receive([LANE], 1, SOON)

        [again] = await other.transport.receive([LANE], 1, SOON)

        assert (taken.deliveries, taken.suspect) == (1, False)
        assert (again.id, again.body, again.deliveries, again.suspect) == ("run:1", b"body", 2, True)


async def test_state_survives_restarts_without_any_client(file_server: RabbitServer) -> None:
    settings = Settings(namespace="alone")
    async with open_rabbitmq(place(file_server), settings) as backend:
        await backend.store.put([Put(Key("run", f"v.{number}"), b"1") for number in range(50)])
        await anyio.sleep(KNOWN)
    for _ in range(2):
        await anyio.to_thread.run_sync(file_server.restart)

    async with open_rabbitmq(place(file_server), settings) as backend:
        give_up = time.monotonic() + WITHIN
        names: list[str] = []
        while not names:
            with suppress(MotetError):
                names = await backend.store.names("run", "v.")
            assert time.monotonic() < give_up

    assert Counter(names) == Counter(f"v.{number}" for number in range(50))
