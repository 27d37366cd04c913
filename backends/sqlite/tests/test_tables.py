"""What the newer ports need of a file: indexes that are used, rows that are removed, values that are refused."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from motet.errors import MotetError, UsageError
from motet.message import DeadLetter, Key, Parcel
from motet.options import Lane
from motet.outcome import ErrorInfo
from motet.ports import Admission, Filter, Lock, Present, Rule, Schedule
from motet_sqlite import SqliteBackend
from motet_sqlite.database import Database
from motet_sqlite.upkeep import upkeep

Connect = Callable[..., AbstractAsyncContextManager[SqliteBackend]]

LANE = Lane("q", "small", 1)
NOW = timedelta()
START = datetime(2026, 1, 1, tzinfo=UTC)


def letter(number: int, *, at: datetime = START) -> DeadLetter:
    return DeadLetter(f"run{number}:0", LANE, "app:task", b"body", ErrorInfo(kind="timeout"), at)


async def test_x3_a_page_goes_on_after_a_letter_that_is_gone(connect: Connect) -> None:
    async with connect() as backend:
        # One instant for all: those that were buried later are newer.
        await backend.deadletters.bury([letter(number) for number in range(5)])
        first = await backend.deadletters.page(Filter(), None, 2)
        await backend.deadletters.remove([each.id for each in first])

        rest = await backend.deadletters.page(Filter(), first[-1].id, 9)

        assert [each.id for each in (*first, *rest)] == [f"run{number}:0" for number in (4, 3, 2, 1, 0)]
        assert await backend.deadletters.page(Filter(), "unknown", 9) == []


async def test_x2_a_letter_that_was_removed_may_be_buried_again(connect: Connect) -> None:
    async with connect() as backend:
        await backend.deadletters.bury([letter(1), letter(1, at=START + timedelta(1))])
        assert await backend.deadletters.purge(Filter(), 9) == 1

        await backend.deadletters.bury([letter(1, at=START + timedelta(2))])

        [found] = await backend.deadletters.get(["run1:0"])
        assert found is not None
        assert found.at == START + timedelta(2)


async def test_instants_of_any_year_are_kept_to_the_microsecond(connect: Connect) -> None:
    due = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    async with connect() as backend:
        saved = await backend.schedules.save(Schedule("s", due))

        assert saved == Schedule("s", due, version=1)
        assert await backend.schedules.fire("s", due, None, [])


async def test_t23_a_repetition_does_not_take_the_place_of_whoever_took_it(connect: Connect) -> None:
    async with connect() as backend:
        first, second = (
            Admission("k", Rule.KEEP_LAST, Parcel(f"run{number}:0", LANE, b""), timedelta(minutes=1))
            for number in range(2)
        )
        assert await backend.transport.admit([first, second, first]) == ["run0:0", "run1:0", "run1:0"]
        assert await backend.transport.admit([first]) == ["run1:0"]

        assert [each.id for each in await backend.transport.receive([LANE], 9, NOW)] == ["run1:0"]


async def test_upkeep_removes_what_has_expired_of_every_port(connect: Connect) -> None:
    async with connect() as backend:
        await backend.store.add(Key("run", "n"), 1, timedelta(seconds=1))
        await backend.store.add(Key("run", "kept"), 1)
        admission = Admission("k", Rule.FIRST, Parcel("run:0", LANE, b""), timedelta(seconds=1))
        await backend.transport.admit([admission])
        await backend.deadletters.bury([letter(1)])
        await backend.deadletters.remove(["run1:0"])
        await backend.workers.beat(Present("w", b""), NOW)
        await backend.locks.acquire([Lock("m", "mutex")], "o", NOW)
        tables = ("counter", "admission", "former", "worker", "holder")

        def keep_up(database: Database) -> list[int]:
            list(upkeep(database, lambda: datetime.now(UTC).timestamp() + 4000))
            return [database.rows(f"SELECT count(*) FROM {{{table}}}")[0][0] for table in tables]

        assert await backend.desk.look(keep_up) == [1, 0, 0, 0, 0]


async def test_e4_old_events_are_removed_as_new_ones_come(connect: Connect) -> None:
    async with connect(query="?synchronous=off") as backend:
        for _ in range(30):
            await backend.events.emit([b"x"] * 100)

        _, events = await backend.events.read("0", 5000, NOW)

        assert len(events) == 1000


@pytest.mark.parametrize(
    ("call", "index"),
    [
        (lambda b: b.deadletters.page(Filter(task="t"), "run1:0", 9), "letter_1_at"),
        (lambda b: b.deadletters.purge(Filter(before=START), 9), "letter_1_at"),
        (lambda b: b.schedules.due(START, 9), "schedule_1_due"),
        (lambda b: b.locks.renew("o", NOW), "holder_1_owner"),
        (lambda b: b.locks.renew("o", NOW), "spent_1_owner"),
        (lambda b: b.locks.release("o"), "holder_1_owner"),
        (lambda b: b.transport.move("q", "r", 9), "message_1_ready"),
    ],
)
async def test_an_index_is_used(connect: Connect, call: Callable[[SqliteBackend], Awaitable[Any]], index: str) -> None:
    async with connect() as backend:
        statements: list[str] = []
        await backend.desk.look(lambda database: database.connection.set_trace_callback(statements.append))
        await call(backend)
        await backend.desk.look(lambda database: database.connection.set_trace_callback(None))
        asked = [each for each in statements if each.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))]

        def plans(database: Database) -> str:
            return "\n".join(
                row[3] for each in asked for row in database.connection.execute(f"EXPLAIN QUERY PLAN {each}")
            )

        assert index in await backend.desk.look(plans)


WRONG: Any = object()


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.transport.publish([Parcel("run:0", LANE, "text")]),  # type: ignore[arg-type]
        lambda b: b.transport.publish([Parcel("run:0", Lane("a:b", "small", 1), b"")]),
        lambda b: b.transport.receive([WRONG], 1, NOW),
        lambda b: b.transport.move("q", "a:b", 1),
        lambda b: b.transport.admit([Admission(WRONG, Rule.FIRST, Parcel("run:0", LANE, b""), NOW)]),
        lambda b: b.store.get([Key(WRONG, "v")]),
        lambda b: b.store.get([Key("a\x1fb", "v")]),
        lambda b: b.store.get([Key("a\0b", "v")]),
        lambda b: b.store.add(Key("run", "n"), 1.5),
        lambda b: b.store.add(Key("run", "n"), 2**63),
        lambda b: b.schedules.save(Schedule("s", datetime(2026, 1, 1))),  # noqa: DTZ001
        lambda b: b.schedules.save(Schedule("s", None, "text")),  # type: ignore[arg-type]
        lambda b: b.locks.acquire([Lock("m", "semaphore", 0)], "o", NOW),
        lambda b: b.locks.acquire([Lock("m", WRONG)], "o", NOW),
        lambda b: b.locks.acquire([Lock("m", "rate")], "o", NOW),
        lambda b: b.workers.beat(Present("w", "text"), NOW),  # type: ignore[arg-type]
        lambda b: b.events.emit(["text"]),
        lambda b: b.events.read("x", 1, NOW),
        lambda b: b.deadletters.bury([WRONG]),
        lambda b: b.deadletters.page(WRONG, None, 1),
        lambda b: b.schedules.save(WRONG),
        lambda b: b.locks.acquire([WRONG], "o", NOW),
        lambda b: b.locks.acquire([], WRONG, NOW),
        lambda b: b.transport.admit([WRONG]),
        lambda b: b.transport.publish([WRONG]),
        lambda b: b.workers.beat(WRONG, NOW),
        lambda b: b.deadletters.get(["a\0b"]),
    ],
)
async def test_b2_what_is_malformed_is_refused(
    connect: Connect, call: Callable[[SqliteBackend], Awaitable[Any]]
) -> None:
    async with connect() as backend:
        with pytest.raises(MotetError):
            await call(backend)
        assert await backend.store.add(Key("run", "good"), 1) == 1


async def test_b4_a_closed_client_refuses_every_port(connect: Connect) -> None:
    async with connect() as closed:
        pass
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: closed.settler.settle([]),
        lambda: closed.store.add(Key("run", "n"), 1),
        lambda: closed.transport.receive([LANE], 1, NOW),
        lambda: closed.deadletters.page(Filter(), None, 1),
        lambda: closed.schedules.page(None, 1),
        lambda: closed.locks.held(""),
        lambda: closed.events.read(None, 1, NOW),
        closed.workers.present,
    ]
    for call in calls:
        with pytest.raises(UsageError, match="closed"):
            await call()
