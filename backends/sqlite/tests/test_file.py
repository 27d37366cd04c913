"""What may be wrong with a file, or become wrong."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from motet.errors import BackendError, MotetError, Rejected, Unavailable, UsageError
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Entry
from motet.program import Flag, Once, Publish, Put
from motet_sqlite import SqliteBackend
from motet_sqlite.database import Database
from motet_sqlite.errors import TABLE, translate
from motet_sqlite.location import Location
from motet_sqlite.schema import connect as connect_to
from motet_sqlite.tables import SCHEMA
from motet_sqlite.upkeep import upkeep

Connect = Callable[..., AbstractAsyncContextManager[SqliteBackend]]

LANE = Lane("q", "small", 1)
NOW = timedelta()


def parcels(count: int, size: int = 100, run: str = "run") -> list[Parcel]:
    return [Parcel(f"{run}:{number}", LANE, b"x" * size) for number in range(count)]


def run(script: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), f"sqlite:///{path}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def overwrite(path: Path, data: bytes, after: int = 0) -> None:
    kept = path.read_bytes()[:after] if after else b""
    path.write_bytes(kept + data)


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


async def test_a_new_file_is_set_up_for_good(path: Path, connect: Connect) -> None:
    async with connect() as backend:
        [(synchronous,)] = await backend.desk.look(lambda database: database.rows("PRAGMA synchronous"))

    assert synchronous == 2
    assert pragma(path, "auto_vacuum") == 2
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "user_version") == SCHEMA
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["motet.db"]


async def test_namespaces_of_one_file_do_not_meet(connect: Connect) -> None:
    async with connect(namespace="one") as one, connect(namespace="One") as other:
        await one.transport.publish(parcels(1))
        await one.store.put([Put(Key("run", "v"), b"1")])
        await one.transport.pause("q")

        assert await other.store.get([Key("run", "v")]) == [None]
        assert await other.transport.queues() == []
        await other.transport.publish(parcels(1))
        assert len(await other.transport.receive([LANE], 9, NOW)) == 1


async def test_many_may_make_the_file_at_once(connect: Connect) -> None:
    async def use() -> None:
        async with connect() as backend:
            await backend.store.put([Put(Key("run", "v"), b"1")])

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(use)


async def test_a_database_of_another_program_is_refused(path: Path, connect: Connect) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")

    with pytest.raises(Rejected, match="belongs to another program"):
        async with connect():
            pass
    assert pragma(path, "journal_mode") == "delete"


async def test_a_newer_schema_is_refused(path: Path, connect: Connect) -> None:
    async with connect():
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA + 1}")

    with pytest.raises(Rejected, match="upgrade motet-sqlite"):
        async with connect():
            pass


async def test_a_file_that_is_no_database_is_refused(path: Path, connect: Connect) -> None:
    overwrite(path, b"not a database, though long enough to be one" * 100)

    with pytest.raises(Rejected, match="not an SQLite database"):
        async with connect():
            pass


async def test_an_old_library_is_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))

    with pytest.raises(Rejected, match=r"3\.35 is needed"):
        async with connect():
            pass


async def test_a_damaged_file_is_rejected(path: Path, connect: Connect) -> None:
    async with connect() as backend:
        await backend.transport.publish(parcels(500))
    overwrite(path, b"\xab" * 100_000, after=8192)

    with pytest.raises(Rejected, match=r"damaged|not those of this version"):
        async with connect() as backend:
            await backend.transport.receive([LANE], 100, NOW)


READ_ONLY = """
    import os, sys, anyio, motet_sqlite, motet_sqlite.desk
    from motet.errors import Rejected
    from motet.ports import Settings
    async def main():
        # Root may write whatever the mode says.
        if os.getuid() == 0:
            os.setuid(65534)
        async with motet_sqlite.open(sys.argv[1], Settings()):
            pass
    try:
        anyio.run(main)
    except Rejected as error:
        print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="rights")
@pytest.mark.parametrize("mode", [0o777, 0o555])
def test_a_read_only_file_is_rejected_at_open(mode: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "motet.db")
        with closing(connect_to(Location(path), "motet", NOW).connection):
            pass
        path.chmod(0o444)
        Path(folder).chmod(mode)

        found = run(READ_ONLY, path)
        Path(folder).chmod(0o755)

    assert "read-only for this user" in found.stdout, found.stderr


async def test_a_full_disk_is_rejected_and_nothing_is_lost(connect: Connect) -> None:
    async with connect() as backend:
        await backend.transport.publish(parcels(10))
        [(pages,)] = await backend.desk.look(lambda database: database.rows("PRAGMA page_count"))
        await backend.desk.look(lambda database: database.rows(f"PRAGMA max_page_count={pages + 5}"))

        with pytest.raises(Rejected, match="make space"):
            await backend.transport.publish(parcels(100, 4000, "big"))
        with pytest.raises(Rejected, match="make space"):
            await backend.settler.settle([Entry([Publish((each,))]) for each in parcels(100, 4000, "big")])

        assert await backend.transport.find(["big"]) == [None]
        taken = await backend.transport.receive([LANE], 100, NOW)
        await backend.settler.settle([Entry([], delivery) for delivery in taken])
        assert len(taken) == 10
        await backend.desk.look(lambda database: database.rows("PRAGMA max_page_count=1000000"))
        await backend.transport.publish(parcels(100, 4000, "big"))
        assert await backend.transport.find(["big"]) == ["queued"]


async def test_a_locked_file_is_unavailable_until_it_is_free(path: Path, connect: Connect) -> None:
    async with connect(timeout=0.2) as backend:
        await backend.transport.publish(parcels(1))
        [taken] = await backend.transport.receive([LANE], 1, NOW)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")

            with pytest.raises(Unavailable, match="another process holds the database"):
                await backend.transport.publish(parcels(1, run="other"))
            with pytest.raises(Unavailable):
                backend.transport.extend([taken.receipt])
            with pytest.raises(Unavailable):
                async with connect(timeout=0.1):
                    pass
            assert await backend.transport.find(["run", "other"]) == ["held", None]
            other.execute("ROLLBACK")

        await backend.transport.publish(parcels(1, run="other"))
        assert backend.transport.extend([taken.receipt]) == [True]


async def test_tables_that_were_dropped_by_hand_are_named(path: Path, connect: Connect) -> None:
    async with connect() as backend:
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE record_1")

        with pytest.raises(Rejected, match="not those of this version"):
            await backend.store.get([Key("run", "v")])
        with pytest.raises(Rejected, match="not those of this version"):
            await backend.store.put([Put(Key("run", "v"), b"")])


@pytest.mark.parametrize("code", sorted(TABLE))
def test_every_known_error_is_translated_with_advice(code: int) -> None:
    error = sqlite3.OperationalError("words")
    error.sqlite_errorcode = code | (3 << 8)

    ours = translate(error, "/x/motet.db")

    assert isinstance(ours, BackendError)
    assert "/x/motet.db: " in str(ours)
    assert ours.__cause__ is error
    assert isinstance(translate(sqlite3.InterfaceError("x"), ""), Rejected)


# --- M5: what the file needs now and then


async def test_m5_upkeep_gives_pages_back_and_cuts_the_log(path: Path, connect: Connect) -> None:
    now = datetime.now(UTC).timestamp()
    async with connect() as backend:
        await backend.store.put([Put(Key("run", f"v.{number}"), b"x" * 1000, NOW) for number in range(1200)])
        await backend.store.flag([Flag("run", "", 0, 1)])
        log = path.with_name("motet.db-wal")
        assert log.stat().st_size > 1_000_000

        def keep_up(database: Database) -> int:
            return sum(1 for _ in upkeep(database, lambda: now + 4000))

        slices = await backend.desk.look(keep_up)

        assert slices > 3
        assert log.stat().st_size == 0
        left = await backend.desk.look(
            lambda database: database.rows("SELECT (SELECT count(*) FROM {record}) + (SELECT count(*) FROM {flag})")
        )
        assert left == [(0,)]
        [(before,)] = await backend.desk.look(lambda database: database.rows("PRAGMA freelist_count"))
        await backend.desk.look(keep_up)
        [(after,)] = await backend.desk.look(lambda database: database.rows("PRAGMA freelist_count"))
        assert before - after == min(200, before)


async def test_m5_a_long_reader_delays_the_cut_but_stops_nobody(path: Path, connect: Connect) -> None:
    async with connect() as backend:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM message_1").fetchone()
            await backend.transport.publish(parcels(1000))

            with anyio.fail_after(2):
                await backend.desk.look(lambda database: list(upkeep(database, lambda: 0.0)))
            await backend.transport.publish(parcels(1, run="more"))

        await backend.desk.look(lambda database: list(upkeep(database, lambda: 0.0)))
        assert path.with_name("motet.db-wal").stat().st_size == 0


# --- The writer's thread


async def test_what_is_asked_at_once_is_committed_at_once(connect: Connect) -> None:
    async with connect() as backend:
        statements: list[str] = []
        await backend.desk.look(lambda database: database.connection.set_trace_callback(statements.append))

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(backend.store.put_once, [Once(Key("run", f"o.{number}"), b"1")])

    assert 1 <= statements.count("COMMIT") <= 20


async def test_an_idle_receiver_writes_nothing(connect: Connect) -> None:
    async with connect() as backend:
        statements: list[str] = []
        await backend.desk.look(lambda database: database.connection.set_trace_callback(statements.append))

        await backend.transport.receive([LANE], 10, timedelta(seconds=0.6))

    assert not [each for each in statements if each.startswith(("BEGIN", "UPDATE"))]
    assert len(statements) < 20


async def test_bad_calls_fail_alone_in_their_batch(connect: Connect) -> None:
    errors: list[BaseException] = []

    async with connect() as backend:

        async def write(number: int) -> None:
            value = "text" if number == 7 else object() if number == 3 else b"1"
            try:
                await backend.store.put([Put(Key("run", f"v.{number}"), value)])  # type: ignore[arg-type]
            except MotetError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(write, number)

        # A text would be stored, and come back as one.
        assert [type(error) for error in errors] == [UsageError] * 2
        assert len(await backend.store.names("run", "")) == 8


async def test_a_message_is_published_and_received_in_one_transaction(connect: Connect) -> None:
    async with connect() as backend:
        statements: list[str] = []
        await backend.desk.look(lambda database: database.connection.set_trace_callback(statements.append))

        async with anyio.create_task_group() as group:
            group.start_soon(backend.transport.receive, [LANE], 10, timedelta(seconds=5))
            await anyio.sleep(0.05)
            await backend.transport.publish(parcels(1))

    assert statements.count("COMMIT") == 1


async def test_receive_does_not_read_the_whole_queue(connect: Connect) -> None:
    async with connect(query="?synchronous=off") as backend:
        steps = [0]

        def count() -> int:
            steps[0] += 1
            return 0

        async def cost() -> int:
            steps[0] = 0
            await backend.desk.look(lambda database: database.connection.set_progress_handler(count, 100))
            assert len(await backend.transport.receive([LANE], 10, NOW)) == 10
            await backend.desk.look(lambda database: database.connection.set_progress_handler(None, 100))
            return steps[0]

        await backend.transport.publish(parcels(100))
        shallow = await cost()
        due = datetime.now(UTC) + timedelta(days=1)
        await backend.timers.park([Parcel(f"p:{number}", LANE, b"", due) for number in range(20_000)])
        await backend.transport.publish(parcels(20_000, run="deep"))

        assert await cost() <= shallow * 2 + 2


async def test_a_closed_backend_says_so_and_its_receivers_end(connect: Connect) -> None:
    before = set(threading.enumerate())
    async with anyio.create_task_group() as group:
        async with connect() as backend:
            group.start_soon(backend.transport.receive, [LANE], 10, timedelta(seconds=60))
            await anyio.sleep(0.05)
        with pytest.raises(UsageError, match="closed"):
            await backend.store.get([Key("run", "v")])
    assert not [thread for thread in threading.enumerate() if thread.name == "motet-sqlite" and thread not in before]


FORK = """
    import os, sys, warnings, anyio, motet_sqlite
    from motet.errors import UsageError
    from motet.message import Key
    from motet.ports import Settings
    from motet.program import Put
    warnings.simplefilter("ignore")
    async def child(backend):
        for call in (lambda: backend.store.get([]), lambda: backend.transport.publish([])):
            try:
                await call()
            except UsageError as error:
                assert "open it again" in str(error)
            else:
                os._exit(3)
        try:
            backend.transport.extend(["1.1"])
        except UsageError:
            await backend.close()
            os._exit(7)
    async def main():
        async with motet_sqlite.open(sys.argv[1], Settings()) as backend:
            pid = os.fork()
            if pid == 0:
                await child(backend)
                os._exit(4)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            await backend.store.put([Put(Key("run", "v"), b"1")])
            print(code)
    anyio.run(main)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
async def test_a_forked_child_is_told_to_open_again(path: Path) -> None:
    found = await anyio.to_thread.run_sync(run, FORK, path)

    assert found.stdout.strip() == "7", found.stderr
