"""Motet from synchronous code: threads, a second process, and what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from motet import BadBackend, Motet, UsageError

PROGRAM = """
import os, sys, threading
from motet import Motet

app = Motet(sys.argv[1])

@app.task(name="double")
def double(x: int) -> int:
    return 2 * x

app.sync.submit(double.s(1), id="parent")
if (pid := os.fork()) == 0:
    app.sync.submit(double.s(2), id="child")
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
app.sync.submit(double.s(3), id="later")
"""


def made(url: str) -> tuple[Motet, object]:
    app = Motet(url)

    @app.task(name="double")
    def double(x: int) -> int:
        return 2 * x

    return app, double


async def work_off(url: str) -> None:
    app, _ = made(url)
    async with app:
        await app.make_worker(burst=True).serve()


def test_threads_share_one_loop_and_get_their_values(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/motet.db"
    app, double = made(url)
    values: dict[int, int] = {}

    def ask(number: int) -> None:
        handle = app.sync.submit(double.s(number))  # type: ignore[attr-defined]
        values[number] = handle.result(20)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while len(values) < len(threads):
        anyio.run(work_off, url)
    app.sync.close()

    assert values == {0: 0, 1: 2, 2: 4, 3: 6}


def test_a_backend_that_does_not_open_is_said_each_time(tmp_path: Path) -> None:
    app, double = made("nothing://")

    for _ in range(2):
        with pytest.raises(BadBackend, match="nothing"):
            app.sync.submit(double.s(1))  # type: ignore[attr-defined]


def test_a_loop_is_not_stopped() -> None:
    app, double = made("memory://")

    async def ask() -> None:
        app.sync.submit(double.s(1))  # type: ignore[attr-defined]

    with pytest.raises(UsageError, match="await"):
        anyio.run(ask)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_process_opens_the_app_anew_and_ends(tmp_path: Path) -> None:
    """As a web server does that loads the application before it forks."""
    url = f"sqlite:///{tmp_path}/motet.db"
    command = [sys.executable, "-c", PROGRAM, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr

    async def values() -> list[object]:
        app, _ = made(url)
        async with app:
            await app.make_worker(burst=True).serve()
            return [await app.handle(name).result(0) for name in ("parent", "child", "later")]

    assert anyio.run(values) == [2, 4, 6]
