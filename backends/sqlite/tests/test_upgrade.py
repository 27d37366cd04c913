"""A file of an older release is completed in place, and keeps what it holds."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Grant, Lock, Schedule
from motet_sqlite import SqliteBackend
from motet_sqlite.tables import NAMES, SCHEMA, VERSIONS

Connect = Callable[..., AbstractAsyncContextManager[SqliteBackend]]

LANE = Lane("q", "small", 1)
NOW = timedelta()
SPACES = ("motet", "other")


@pytest.fixture
def older(path: Path) -> Path:
    """Make a file as version 1 did, with something of each kind in two namespaces."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA application_id={0x4D6F7465}")
        connection.execute("PRAGMA user_version=1")
        connection.execute("CREATE TABLE namespace (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
        for number, space in enumerate(SPACES, 1):
            connection.execute("INSERT INTO namespace VALUES (?, ?)", (number, space))
            connection.executescript(VERSIONS[0].format(**{name: f"{name}_{number}" for name in NAMES}))
            message = f"INSERT INTO message_{number} (id, lane, state, body, due, suspect) VALUES (?, ?, ?, ?, ?, ?)"
            connection.execute(message, ("run:0", str(LANE), 0, space.encode(), None, 0))
            connection.execute(message, ("run:1", str(LANE), 1, b"parked", 1.0, 1))
            record = f"INSERT INTO record_{number} (key, value, expires, made) VALUES (?, ?, ?, ?)"
            connection.execute(record, ("run\x1fr", space.encode(), None, 1))
            connection.execute(f"INSERT INTO paused_{number} VALUES ('stopped')")
        connection.commit()
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("space", SPACES)
async def test_an_older_file_keeps_its_messages_and_learns_what_is_new(
    older: Path, connect: Connect, space: str
) -> None:
    async with connect(namespace=space) as backend:
        taken = await backend.transport.receive([LANE], 10, NOW)
        assert [(each.id, each.body) for each in taken] == [("run:0", space.encode()), ("run:1", b"parked")]
        assert await backend.store.runs(None, 10) == [("run", space.encode())]
        assert [info.queue for info in await backend.transport.queues() if info.paused] == ["stopped"]

        assert await backend.store.add(Key("run", "n"), 2) == 2
        assert isinstance(await backend.locks.acquire([Lock("m", "mutex")], "o", timedelta(seconds=9)), Grant)
        assert await backend.schedules.save(Schedule("s", None)) == Schedule("s", None, version=1)

    assert version(older) == SCHEMA


async def test_a_new_namespace_of_an_older_file_has_every_table(older: Path, connect: Connect) -> None:
    async with connect(namespace="third") as backend:
        await backend.transport.publish([Parcel("run:0", LANE, b"")])
        assert await backend.store.add(Key("run", "n"), 1) == 1


async def test_many_may_upgrade_a_file_at_once(older: Path, connect: Connect) -> None:
    async def use(number: int) -> None:
        async with connect(namespace=SPACES[number % 2]) as backend:
            await backend.store.add(Key("run", "n"), 1)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(use, number)

    async with connect() as backend:
        assert await backend.store.add(Key("run", "n"), 0) == 4


async def test_who_opened_the_file_before_carries_on(older: Path, connect: Connect) -> None:
    with closing(sqlite3.connect(older, isolation_level=None)) as before:
        assert before.execute("SELECT count(*) FROM message_1").fetchone() == (2,)
        async with connect():
            pass
        before.execute("DELETE FROM message_1 WHERE id = 'run:0'")

    async with connect() as backend:
        assert len(await backend.transport.receive([LANE], 10, NOW)) == 1
