"""Processes wake each other (M6)."""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Entry
from motet.program import Once
from motet_sqlite import SqliteBackend

Connect = Callable[..., AbstractAsyncContextManager[SqliteBackend]]

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no datagram sockets")

LANE = Lane("q", "small", 1)
LONG = timedelta(seconds=10)

WAITER = """
    import sys, time, anyio, motet_sqlite
    from datetime import timedelta
    from motet.options import Lane
    from motet.ports import Settings
    LONG = timedelta(seconds=10)
    async def main(url, mode):
        async with motet_sqlite.open(url, Settings()) as backend:
            async with backend.signals.subscribe("run") as wakeups:
                cursor, _ = await backend.events.read(None, 1, timedelta())
                for _ in range(5):
                    print("ready", flush=True)
                    if mode == "receive":
                        taken = await backend.transport.receive([Lane("q", "small", 1)], 10, LONG)
                        print(time.monotonic(), flush=True)
                        await backend.transport.ack(taken)
                    elif mode == "events":
                        cursor, _ = await backend.events.read(cursor, 10, LONG)
                        print(time.monotonic(), flush=True)
                    else:
                        await wakeups.wait(LONG)
                        print(time.monotonic(), flush=True)
    anyio.run(main, *sys.argv[1:])
"""


@contextmanager
def waiter(path: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WAITER), f"sqlite:///{path}", mode],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("mode", ["receive", "wait", "events"])
async def test_m6_another_process_wakes_within_50_ms(path: Path, connect: Connect, mode: str) -> None:
    delays = []
    async with connect() as backend:
        with waiter(path, mode) as process:
            for number in range(5):
                assert await anyio.to_thread.run_sync(line, process) == "ready"
                await anyio.sleep(0.11)
                if mode == "receive":
                    await backend.transport.publish([Parcel(f"run:{number}", LANE, b"")])
                elif mode == "events":
                    await backend.events.emit([b"event"])
                else:
                    await backend.settler.settle([Entry([Once(Key("run", f"o.{number}"), b"", ends=True)])])
                decided = time.monotonic()
                delays.append(float(await anyio.to_thread.run_sync(line, process)) - decided)

    assert statistics.median(delays) < 0.05


async def test_m6_the_backstop_works_without_the_sockets(path: Path, connect: Connect) -> None:
    async with connect() as sender, connect() as receiver:
        directory = path.with_name("motet.db.wake")
        for number in range(2):
            async with anyio.create_task_group() as group:
                group.start_soon(receiver.transport.receive, [LANE], 1, LONG)
                await anyio.sleep(0.1)
                shutil.rmtree(directory)
                with anyio.fail_after(0.8):
                    await sender.transport.publish([Parcel(f"run:{number}", LANE, b"")])
        # The next idle receiver has a socket again.
        await receiver.transport.receive([LANE], 1, timedelta(seconds=0.6))
        assert len(list(directory.iterdir())) == 1


async def test_m6_a_process_without_sockets_polls(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motet_sqlite.wake.SUPPORTED", False)
    async with connect() as sender, connect() as receiver, anyio.create_task_group() as group:
        group.start_soon(receiver.transport.receive, [LANE], 1, LONG)
        await anyio.sleep(0.1)
        with anyio.fail_after(0.8):
            await sender.transport.publish([Parcel("run:1", LANE, b"")])


async def test_e3_events_are_found_without_the_sockets(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motet_sqlite.wake.SUPPORTED", False)
    async with connect() as sender, connect() as reader, anyio.create_task_group() as group:
        cursor, _ = await reader.events.read(None, 1, timedelta())
        group.start_soon(reader.events.read, cursor, 1, LONG)
        await anyio.sleep(0.1)
        with anyio.fail_after(0.8):
            await sender.events.emit([b"event"])


async def test_m6_a_receiver_that_has_no_use_for_a_byte_passes_it_on(connect: Connect) -> None:
    other = Lane("other", "small", 1)
    async with connect() as sender, connect() as useless, connect() as busy, connect() as useful:
        await busy.transport.receive([LANE], 1, timedelta(seconds=0.05))
        delays = []
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(useless.transport.receive, [other], 1, LONG)
            for number in range(6):
                await anyio.sleep(0.05)
                done = anyio.Event()

                async def take(done: anyio.Event = done) -> None:
                    await useful.transport.ack(await useful.transport.receive([LANE], 1, LONG))
                    done.set()

                group.start_soon(take)
                await anyio.sleep(0.05)
                began = time.monotonic()
                await sender.transport.publish([Parcel(f"run:{number}", LANE, b"")])
                await done.wait()
                delays.append(time.monotonic() - began)
            group.cancel_scope.cancel()

    assert statistics.median(delays) < 0.05


async def test_m6_a_dead_socket_is_removed(path: Path, connect: Connect) -> None:
    async with connect() as backend:
        directory = path.with_name("motet.db.wake")
        directory.mkdir()
        for name in ("w-999999-dead", "r-999999-dead"):
            dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            dead.bind(str(directory / name))
            dead.close()

        await backend.transport.publish([Parcel("run:1", LANE, b"")])
        await backend.settler.settle([Entry([Once(Key("run", "o.0"), b"", ends=True)])])

        assert list(directory.iterdir()) == []
    assert not directory.exists()


async def test_m6_a_receiver_arms_the_next_due_time_itself(connect: Connect) -> None:
    async with connect() as backend:
        due = datetime.now(UTC) + timedelta(seconds=0.4)
        await backend.timers.park([Parcel("run:1", LANE, b"", due)])

        [_] = await backend.transport.receive([LANE], 1, LONG)

        assert timedelta() <= datetime.now(UTC) - due < timedelta(seconds=0.05)


async def test_a_long_path_works(tmp_path: Path) -> None:
    import motet_sqlite
    from motet.ports import Settings

    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    url = f"sqlite:///{folder}/motet.db"
    async with motet_sqlite.open(url, Settings()) as one, motet_sqlite.open(url, Settings()) as other:
        async with anyio.create_task_group() as group:
            group.start_soon(one.transport.receive, [LANE], 1, LONG)
            await anyio.sleep(0.1)
            with anyio.fail_after(1):
                await other.transport.publish([Parcel("run:1", LANE, b"")])
        directory = one.desk._writer._bell.directory
        assert directory.parent == Path("/tmp")
        assert len(list(directory.iterdir())) == 1
    assert not directory.exists()


async def test_an_idle_receiver_takes_less_than_one_percent_of_a_cpu(connect: Connect) -> None:
    async with connect() as backend:
        await backend.transport.receive([LANE], 1, timedelta(seconds=0.3))
        began, used = time.monotonic(), time.process_time()

        await backend.transport.receive([LANE], 1, timedelta(seconds=2))

        assert (time.process_time() - used) / (time.monotonic() - began) < 0.01
