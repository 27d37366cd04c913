"""A server that dies or falls silent: work flows again by itself, and nothing is lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from nats_server import NatsServer

from motet import Motet, group
from motet.errors import MotetError
from motet.message import Key
from motet.options import Lane
from motet.ports import Settings
from motet.program import Put
from motet_nats import open as open_nats

pytestmark = pytest.mark.timeout(60)
WITHIN = 3.0
"""Seconds in which work flows again once it can."""
WORKER = """
import anyio, os, sys
from motet import Motet
app = Motet(sys.argv[1], lease=1.0)

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


@asynccontextmanager
async def flowing(url: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Run a worker and a client that submits all the time; yield what waits until a call comes back again."""
    app = Motet(url, lease=2)

    @app.task(name="tests:double")
    async def double(x: int) -> int:
        return 2 * x

    async def flows() -> float:
        """Return after how long a call has come back that was made from now on."""
        began = time.monotonic()
        while True:
            with suppress(MotetError):
                call = await double.delay(21)
                assert await call.result(timeout=2) == 42
                return time.monotonic() - began

    async with app, anyio.create_task_group() as tasks:
        worker = app.make_worker(concurrency=10)
        tasks.start_soon(worker.serve)
        await flows()
        yield flows
        worker.stop()


async def test_work_flows_again_soon_after_a_restart(own_server: NatsServer) -> None:
    async with flowing(own_server.url) as flows:
        for _ in range(3):
            await anyio.to_thread.run_sync(own_server.restart)
            assert await flows() < WITHIN


async def test_work_flows_again_soon_after_silence(own_server: NatsServer) -> None:
    """Nothing is closed and nothing answers, as when a cable is cut: a server that is stopped for ten seconds."""
    async with flowing(own_server.url) as flows:
        own_server.pause()
        await anyio.sleep(10)  # the fault itself
        own_server.go_on()
        assert await flows() < WITHIN


async def test_a_connection_that_ends_without_a_word_is_noticed(own_server: NatsServer) -> None:
    """nats-py does so now and then when a server is killed while it is being connected to."""
    async with open_nats(own_server.url, Settings()) as backend:
        await backend.store.put([Put(Key("run", "v"), b"1")])
        link = backend.client.link
        assert link is not None
        silent: Any = link.connection
        silent._closed_cb = None
        await silent.close()
        assert link.broken is not None

        assert await backend.store.get([Key("run", "v")]) == [b"1"]
        assert await backend.transport.receive([Lane("q", "small", 0)], 1, timedelta(seconds=0.2)) == []


def workers(url: str, note: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, url, str(note)], env={**os.environ})


async def test_a_worker_that_was_frozen_past_its_lease_changes_nothing_when_it_goes_on(
    own_server: NatsServer, tmp_path: Path
) -> None:
    app, notes = Motet(own_server.url, lease=1.0), tmp_path / "notes"

    @app.task(name="tests:note")
    async def note(number: int, seconds: float = 0.0) -> int:
        raise AssertionError

    notes.touch()
    with workers(own_server.url, notes) as frozen:
        async with app:
            runs = [await note.delay(number, 0.5) for number in range(5)]
            with anyio.fail_after(10):
                while len(notes.read_text().splitlines()) < 5:
                    await anyio.sleep(0.02)
            frozen.send_signal(signal.SIGSTOP)
            with workers(own_server.url, notes) as other:
                assert sorted([await run.result(timeout=20) for run in runs]) == [0, 1, 2, 3, 4]
                records = [await app.backend.store.names(run.id, "") for run in runs]
                frozen.send_signal(signal.SIGCONT)
                await anyio.sleep(1.5)  # for it to settle what it had run

                assert [await app.backend.store.names(run.id, "") for run in runs] == records
                assert [await run.result(timeout=1) for run in runs] == [0, 1, 2, 3, 4]
                assert not any(info.ready or info.held for info in await app.backend.transport.queues())
                assert len(notes.read_text().splitlines()) == 10
                other.kill()
        frozen.kill()


async def test_groups_survive_killed_workers_and_a_killed_server(own_server: NatsServer, tmp_path: Path) -> None:
    app, notes = Motet(own_server.url, lease=1.0), tmp_path / "notes"

    @app.task(name="tests:note")
    async def note(number: int, seconds: float = 0.0) -> int:
        raise AssertionError

    @app.task(name="tests:total")
    async def total(numbers: list[int]) -> int:
        raise AssertionError

    running = [workers(own_server.url, notes) for _ in range(2)]
    try:
        async with app:
            runs = [await (group(note.s(n, 0.02) for n in range(10)) | total.s()).submit() for _ in range(15)]
            for turn in range(6):
                await anyio.sleep(0.7)
                running[turn % 2].kill()
                running[turn % 2].wait()
                running[turn % 2] = workers(own_server.url, notes)
                if turn % 3 == 1:
                    await anyio.to_thread.run_sync(own_server.restart)
            assert [await run.result(timeout=30) for run in runs] == [45] * 15
            with anyio.fail_after(10):
                while any(info.ready or info.held for info in await app.backend.transport.queues()):
                    await anyio.sleep(0.1)
    finally:
        for each in running:
            each.kill()
            each.wait()


async def test_an_idle_worker_costs_next_to_nothing(own_server: NatsServer, tmp_path: Path) -> None:
    with workers(own_server.url, tmp_path / "notes") as worker:
        await anyio.sleep(2)
        before = cpu(worker.pid)
        await anyio.sleep(4)
        used = cpu(worker.pid) - before
        worker.kill()

    assert used < 0.01 * 4 + 0.02  # 1 %, and the two ticks of 10 ms that reading it may be off by


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
