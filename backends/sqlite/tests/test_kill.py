"""kill -9 at every named point: the file stays whole, and the work is done once (P5)."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest

from motet.message import Key
from motet_sqlite import FAILPOINTS, SqliteBackend

Connect = Callable[..., AbstractAsyncContextManager[SqliteBackend]]

STEPS = 6

WORKER = """
    import sys, anyio, motet_sqlite
    from datetime import timedelta
    from motet.message import Key, Parcel
    from motet.options import Lane
    from motet.ports import Entry, Settings
    from motet.program import Arrive, Flag, Once, Open, Publish
    LANE = Lane("q", "small", 1)
    STEPS = int(sys.argv[2])
    def step(number, delivery):
        fire = (Once(Key("run", "done"), b"1", ends=True), Publish((Parcel("end:0", LANE, b"end"),)))
        following = (Publish((Parcel(f"run:{number + 1}", LANE, b"%d" % (number + 1)),)),) if number + 1 < STEPS else ()
        program = [Once(Key("run", f"o.{number}"), b"x"), *following, Arrive(Key("run", "b"), number, 0, fire)]
        return Entry(program, delivery)
    async def main():
        async with motet_sqlite.open(sys.argv[1], Settings(lease=timedelta(seconds=0.3))) as backend:
            start = [Once(Key("run", "r"), b""), Open(Key("run", "b"), STEPS), Publish((Parcel("run:0", LANE, b"0"),))]
            await backend.settler.settle([Entry(start)])
            while any(await backend.transport.find(["run", "end"])):
                for delivery in await backend.transport.receive([LANE], 10, timedelta(seconds=1)):
                    if delivery.body == b"end":
                        await backend.transport.ack([delivery])
                        continue
                    await backend.settler.settle([step(int(delivery.body), delivery)])
    anyio.run(main)
"""


def work(path: Path, points: str, script: str = WORKER) -> int:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), f"sqlite:///{path}?synchronous=normal", str(STEPS)],
        check=False,
        timeout=15,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MOTET_FAILPOINTS": points},
    ).returncode


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("point", FAILPOINTS)
async def test_p5_a_kill_at_any_point_repeats_to_the_same_state(path: Path, connect: Connect, point: str) -> None:
    killed = [work(path, f"{point}=kill@{count}") for count in (1, 3)]
    assert killed[0] == -9, "the point was not reached"

    assert work(path, "") == 0

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    async with connect() as backend:
        names = {"r", "done", *(f"o.{number}" for number in range(STEPS))}
        assert set(await backend.store.names("run", "")) == names
        [barrier] = await backend.store.barriers([Key("run", "b")])
        assert barrier is not None
        assert sorted(barrier.arrived) == list(range(STEPS))
        assert await backend.transport.queues() == []
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["motet.db"]


DYING = """
    import sys, anyio, motet_sqlite
    from datetime import UTC, datetime, timedelta
    from motet.message import DeadLetter, Key, Parcel
    from motet.options import Lane
    from motet.outcome import ErrorInfo
    from motet.ports import Admission, Entry, Lock, Rule, Schedule, Settings, Settlement
    from motet.program import Bury, Put
    LANE = Lane("q", "small", 1)
    MINUTE = timedelta(minutes=1)
    async def main():
        async with motet_sqlite.open(sys.argv[1], Settings(lease=timedelta(seconds=0.3))) as backend:
            due = datetime(2026, 1, 1, tzinfo=UTC)
            await backend.schedules.save(Schedule("s", due))
            await backend.schedules.fire("s", due, None, [Parcel("run:0", LANE, b"")])
            [delivery] = await backend.transport.receive([LANE], 1, timedelta(seconds=1))
            await backend.locks.acquire([Lock("m", "mutex")], "o", MINUTE)
            letter = DeadLetter("run:0", LANE, "t", b"", ErrorInfo(kind="timeout"), due)
            program = [Put(Key("run", "v"), b"1"), Bury(letter)]
            await backend.settler.settle([Entry(program, delivery, Settlement("run", "", 0, 1, None, "o"))])
            await backend.deadletters.replay([("run:0", Parcel("again:0", LANE, b""))])
            first, second = (Admission("k", Rule.KEEP_LAST, Parcel(f"{n}:0", LANE, b""), MINUTE) for n in "xy")
            await backend.transport.admit([first])
            await backend.transport.admit([second])
    anyio.run(main)
"""


async def states(connect: Connect) -> tuple[object, ...]:
    """Read what the steps of DYING, which never happen by halves, have left."""
    async with connect() as backend:
        [schedule] = await backend.schedules.get(["s"])
        fired = schedule is not None and schedule.due is None
        letters = await backend.deadletters.get(["run:0"])
        where = await backend.transport.find(["run", "again", "x", "y"])
        [settled, lost] = await backend.store.get([Key("run", "v"), Key("x", "o.0")])
        assert fired == (where[0] is not None or settled is not None)
        assert (settled is not None) == (letters[0] is not None or where[1] is not None)
        assert not (settled and await backend.locks.held("m"))
        assert not (letters[0] and where[1])
        assert (lost is not None) == (where[3] is not None) and not (where[2] and where[3])
        return fired, settled, letters[0] is None, *where


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
async def test_p5_a_kill_leaves_no_step_of_any_port_half_done(path: Path, connect: Connect) -> None:
    seen: set[tuple[object, ...]] = set()
    for count in range(1, 9):
        for point in ("before_commit", "after_commit"):
            for file in path.parent.glob("motet.db*"):
                if file.is_file():
                    file.unlink()
            assert work(path, f"{point}=kill@{count}", DYING) == -9, "the point was not reached"
            seen.add(await states(connect))

    assert len(seen) >= 5
