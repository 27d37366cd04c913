"""What the contract says of the newer ports, on the reference backend under a clock that stands still."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import pytest

from motet import memory
from motet.errors import MotetError, UsageError
from motet.memory import MemoryBackend
from motet.memory.clock import VirtualClock
from motet.message import DeadLetter, Key, Parcel
from motet.options import Lane
from motet.outcome import ErrorInfo
from motet.ports import Admission, Busy, Entry, Filter, Grant, Lock, Present, Rule, Schedule, Settings, Settlement
from motet.program import Arrive, Bury, Do, Once, Op, Open, Publish, Put, Retry

LANE = Lane("q", "small", 0)
NOW = timedelta()
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
RECORD = Key("a", "o.0")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=["script", "ordered"])
async def backend(clock: VirtualClock, request: pytest.FixtureRequest) -> AsyncIterator[MemoryBackend]:
    async with memory.open(f"memory://?settle={request.param}", Settings(clock=clock)) as backend:
        yield backend


def parcel(name: str, lane: Lane = LANE, *, body: bytes = b"body", due: Any = None) -> Parcel:
    return Parcel(name, lane, body, due)


async def taken(backend: MemoryBackend, lane: Lane = LANE, **options: Any) -> list[str]:
    return [delivery.id for delivery in await backend.transport.receive([lane], 100, NOW, **options)]


# Transport.


async def test_t16_a_paused_queue_can_be_emptied(backend: MemoryBackend) -> None:
    await backend.transport.publish([parcel("a:1")])
    await backend.transport.pause("q")

    assert await taken(backend) == []
    assert await taken(backend, paused=True) == ["a:1"]


async def test_t17_ready_messages_move_and_keep_what_they_are(backend: MemoryBackend, clock: VirtualClock) -> None:
    late = clock.now() + MINUTE
    await backend.transport.publish([parcel("held:1"), parcel("a:1")])
    held = await backend.transport.receive([LANE], 1, NOW)
    await backend.transport.publish([parcel("parked:1", due=late), parcel("a:2"), parcel("a:3")])

    assert await backend.transport.move("q", "other", 2) == 2

    assert await taken(backend, Lane("other", "small", 0)) == ["a:1", "a:2"]
    await backend.transport.release(held)
    assert await taken(backend) == ["held:1", "a:3"]
    with pytest.raises(UsageError):
        await backend.transport.move("q", "q", 1)


def admission(name: str, rule: Rule, **parcel_options: Any) -> Admission:
    return Admission("key", rule, parcel(f"{name}:1", **parcel_options), MINUTE, replaced=name.encode())


async def test_t20_first_publishes_one_per_window(backend: MemoryBackend, clock: VirtualClock) -> None:
    first, second = admission("a", Rule.FIRST), admission("b", Rule.FIRST)

    assert await backend.transport.admit([first, second]) == ["a:1", "a:1"]
    [delivery] = await backend.transport.receive([LANE], 9, NOW)
    await backend.transport.ack([delivery])
    assert await backend.transport.admit([first]) == ["a:1"]
    assert await taken(backend) == []

    await clock.advance(60)
    assert await backend.transport.admit([second]) == ["b:1"]
    assert await taken(backend) == ["b:1"]


async def test_t21_debounce_delivers_the_last_of_a_burst(backend: MemoryBackend, clock: VirtualClock) -> None:
    async with backend.signals.subscribe("a") as wakeups:
        for name, delay in (("a", 5), ("b", 6), ("c", 7)):
            await backend.transport.admit(
                [admission(name, Rule.DEBOUNCE, due=clock.now() + timedelta(seconds=delay), body=name.encode())]
            )
        await wakeups.wait(MINUTE)

    # A repetition of what has lost its place does not take the place of another (T19, T23).
    assert await backend.transport.admit([admission("a", Rule.DEBOUNCE, due=clock.now() + SECOND)]) == ["c:1"]
    assert await backend.store.get([RECORD, Key("b", "o.0"), Key("c", "o.0")]) == [b"b", b"c", None]
    await clock.advance(6.5)
    assert await taken(backend) == []
    await clock.advance(1)
    assert await taken(backend) == ["c:1"]


async def test_t22_keep_last_takes_the_place_of_what_waits(backend: MemoryBackend, clock: VirtualClock) -> None:
    await backend.transport.admit([admission("a", Rule.KEEP_LAST), admission("b", Rule.KEEP_LAST)])

    assert await taken(backend) == ["b:1"]
    await backend.transport.admit([admission("c", Rule.KEEP_LAST)])
    assert await taken(backend) == ["c:1"]
    assert await backend.store.get([RECORD, Key("b", "o.0")]) == [b"b", None]


async def test_d5_what_is_left_after_many_cancels_comes_in_its_order(
    backend: MemoryBackend, clock: VirtualClock
) -> None:
    names = [f"a:{number}" for number in range(50)]
    order = [(number * 7) % 50 for number in range(50)]
    await backend.timers.park(
        [parcel(names[number], due=clock.now() + timedelta(seconds=number + 1)) for number in order]
    )
    await backend.timers.cancel([name for number, name in enumerate(names) if number % 3])

    await clock.advance(60)

    assert await taken(backend) == names[::3]


# Store.


async def test_s13_an_older_time_to_live_does_not_remove_a_newer_value(
    backend: MemoryBackend, clock: VirtualClock
) -> None:
    same = b"1"
    await backend.store.put([Put(RECORD, same, SECOND), Put(RECORD, same, MINUTE)])
    await clock.advance(2)
    assert await backend.store.get([RECORD]) == [same]
    await backend.store.put([Put(RECORD, same)])
    await clock.advance(120)
    assert await backend.store.get([RECORD]) == [same]


async def test_s15_counters_count_and_go(backend: MemoryBackend, clock: VirtualClock) -> None:
    assert [await backend.store.add(RECORD, amount) for amount in (2, -5, 10)] == [2, -3, 7]
    assert await backend.store.add(Key("a", "short"), 1, SECOND) == 1
    await clock.advance(1)
    assert await backend.store.add(Key("a", "short"), 1) == 1
    assert not await backend.store.sweep("a", 1)
    assert await backend.store.sweep("a", 1)
    assert await backend.store.add(RECORD, 1) == 1


# Locks.


async def test_l1_all_or_none_and_a_rate_is_not_spent(backend: MemoryBackend) -> None:
    locks, rate = backend.locks, Lock("rate", "rate", 1, MINUTE)
    await locks.acquire([Lock("m", "mutex")], "a", MINUTE)

    assert await locks.acquire([rate, Lock("m", "mutex")], "b", MINUTE) == Busy("m", MINUTE)
    assert isinstance(await locks.acquire([rate], "b", MINUTE), Grant)
    assert await locks.acquire([rate], "c", MINUTE) == Busy("rate", MINUTE)
    assert [(each.name, each.owner) for each in await locks.held("")] == [("m", "a")]


async def test_l2_fences_grow_and_renewing_keeps_them(backend: MemoryBackend, clock: VirtualClock) -> None:
    mutex = Lock("m", "mutex")
    first = await backend.locks.acquire([mutex], "a", SECOND)
    assert await backend.locks.acquire([mutex], "a", SECOND) == first
    await clock.advance(1)
    second = await backend.locks.acquire([mutex], "b", SECOND)

    assert isinstance(first, Grant)
    assert isinstance(second, Grant)
    assert second.fence > first.fence
    assert not await backend.locks.renew("a", SECOND)
    assert await backend.locks.renew("b", MINUTE)
    await backend.locks.release("a")
    await clock.advance(30)
    assert await backend.locks.free("m")
    assert not await backend.locks.free("m")
    assert not await backend.locks.renew("b", MINUTE)


async def test_l5_a_rate_holds_in_every_window(backend: MemoryBackend, clock: VirtualClock) -> None:
    rate = Lock("r", "rate", 2, timedelta(seconds=10))
    granted: list[float] = []
    for number in range(60):
        answer = await backend.locks.acquire([rate], f"owner{number}", SECOND)
        await backend.locks.release(f"owner{number}")
        if isinstance(answer, Grant):
            granted.append(clock.monotonic())
        await clock.advance(1)

    assert granted == [0, 1, 10, 11, 20, 21, 30, 31, 40, 41, 50, 51]


async def test_l6_l7_readers_writers_and_places(backend: MemoryBackend, clock: VirtualClock) -> None:
    async def asked(owner: str, lock: Lock) -> bool:
        return isinstance(await backend.locks.acquire([lock], owner, MINUTE), Grant)

    read, write, place = Lock("l", "read"), Lock("l", "write"), Lock("s", "semaphore", 2)
    assert [await asked("a", read), await asked("b", read), await asked("c", write)] == [True, True, False]
    await backend.locks.release("a")
    assert [await asked("b", write), await asked("c", read)] == [True, False]
    assert [await asked(owner, place) for owner in "xyz"] == [True, True, False]
    await backend.locks.release("x")
    assert [await asked(owner, place) for owner in "zyx"] == [True, True, False]
    await clock.advance(60)
    assert await backend.locks.held("") == []


# Schedules, dead letters, workers, events.


async def test_schedules_are_edited_by_version_and_fire_once(backend: MemoryBackend, clock: VirtualClock) -> None:
    port, due = backend.schedules, clock.now()
    made = await port.save(Schedule("s", due, b"spec"))
    assert made == Schedule("s", due, b"spec", version=1)
    assert await port.save(Schedule("s", None)) == made
    assert await port.save(Schedule("t", None, version=3)) is None
    assert await port.due(due, 9) == [made]

    fired = [await port.fire("s", due, due + MINUTE, [parcel("s:1")]) for _ in range(3)]

    assert fired == [True, False, False]
    assert await taken(backend) == ["s:1"]
    [moved] = await port.page(None, 9)
    assert moved == Schedule("s", due + MINUTE, b"spec", version=2)
    paused = await port.save(Schedule("s", due, paused=True, version=2))
    assert not await port.fire("s", due, None, [parcel("s:2")])
    assert await port.get(["s", "t"]) == [paused, None]
    assert await port.due(due + MINUTE, 9) == []
    assert [await port.remove("s"), await port.remove("s")] == [True, False]


def letter(number: int, clock: VirtualClock, *, kind: str = "exception") -> DeadLetter:
    error = ErrorInfo(kind=kind, message="m", task="t")
    return DeadLetter(f"a:{number}", LANE, "t", b"body", error, clock.now() + timedelta(seconds=number))


async def test_dead_letters_are_listed_replayed_and_purged(backend: MemoryBackend, clock: VirtualClock) -> None:
    port = backend.deadletters
    letters = [letter(number, clock) for number in range(6)]
    await backend.settler.settle([Entry([Bury(each) for each in letters])])
    await backend.settler.settle([Entry([Bury(letter(0, clock, kind="other"))])])
    assert await port.get(["a:0", "b:0"]) == [letters[0], None]

    page = await port.page(Filter(), None, 2)
    assert page == [letters[5], letters[4]]
    assert await port.remove(["a:4", "a:4"]) == [True, False]
    assert await port.page(Filter(), "a:4", 2) == [letters[3], letters[2]]
    chosen = Filter(queue="q", task="t", kind="exception", since=letters[1].at, before=letters[3].at)
    assert await port.page(chosen, None, 9) == [letters[2], letters[1]]
    assert await port.page(Filter(kind="other"), None, 9) == []

    assert await port.replay([("a:5", parcel("new:1")), ("a:5", parcel("new:1"))]) == [True, False]
    assert await taken(backend) == ["new:1"]
    assert await port.purge(Filter(), 2) == 2
    assert await port.page(Filter(), None, 9) == [letters[3], letters[2]]


async def test_workers_are_listed_until_they_are_silent(backend: MemoryBackend, clock: VirtualClock) -> None:
    for name in "bac":
        await backend.workers.beat(Present(name, name.encode()), MINUTE)
    await backend.workers.beat(Present("a", b"new"), SECOND)
    await backend.workers.leave("c")

    assert await backend.workers.present() == [Present("a", b"new"), Present("b", b"b")]
    await clock.advance(1)
    assert await backend.workers.present() == [Present("b", b"b")]


async def test_events_continue_from_a_cursor_and_the_oldest_go(backend: MemoryBackend) -> None:
    port = backend.events
    cursor, found = await port.read(None, 10, NOW)
    assert found == []
    await port.emit([b"%d" % number for number in range(1500)])

    cursor, found = await port.read(cursor, 600, NOW)
    assert (found[0], len(found)) == (b"500", 600)
    cursor, found = await port.read(cursor, 600, NOW)
    assert found[-1] == b"1499"
    async with anyio.create_task_group() as group:
        group.start_soon(port.read, cursor, 1, MINUTE)
        await anyio.sleep(0.01)
        await port.emit([b"x"])
    assert (await port.read(cursor, 9, NOW))[1] == [b"x"]


# Settler.


async def test_p9_locks_go_with_the_acknowledgement_and_stay_with_a_conflict(backend: MemoryBackend) -> None:
    await backend.transport.publish([parcel("a:1")])
    [delivery] = await backend.transport.receive([LANE], 1, NOW)
    await backend.locks.acquire([Lock("m", "mutex")], "owner", MINUTE)
    settlement = Settlement("a", "", 0, 1, None, release="owner")
    await backend.store.put_once([Once(RECORD, b"theirs")])

    await backend.settler.settle([Entry([Once(RECORD, b"mine")], delivery, settlement)])
    assert len(await backend.locks.held("")) == 1
    await backend.settler.settle([Entry([Once(RECORD, b"theirs")], delivery, settlement)])
    assert await backend.locks.held("") == []


async def test_p10_sixteen_barriers_and_a_thousand_parcels(backend: MemoryBackend) -> None:
    op: Op = Publish(tuple(parcel(f"a:{number}") for number in range(1000)))
    for depth in range(16):
        op = Arrive(Key("a", f"b.{depth}"), 0, 0, (op,))
    await backend.settler.settle([Entry([*(Open(Key("a", f"b.{depth}"), 1) for depth in range(16)), Do([op])])])

    assert (await backend.transport.queues())[0].ready == 1000


async def test_p11_a_retry_parks_an_attempt_once(backend: MemoryBackend, clock: VirtualClock) -> None:
    entry = Entry([Retry(Key("a", "a.1"), parcel("a:r1", due=clock.now()))])
    await backend.settler.settle([entry, entry])
    [delivery] = await backend.transport.receive([LANE], 9, NOW)
    await backend.transport.ack([delivery])

    await backend.settler.settle([entry])

    assert await taken(backend) == []


# Backend.


WRONG: Any = object()
MALFORMED: list[tuple[str, str, tuple[Any, ...]]] = [
    ("transport", "publish", ([parcel("a:1"), parcel("a:2", body=WRONG)],)),
    ("transport", "receive", ([LANE], -1, NOW)),
    ("transport", "admit", ([admission("a", WRONG)],)),
    ("timers", "park", ([parcel("a:1"), parcel("a:2", due=VirtualClock().now().replace(tzinfo=None))],)),
    ("store", "put", ([Put(RECORD, b""), Put(RECORD, WRONG)],)),
    ("store", "get", ([("a", "o.0")],)),
    ("store", "flags", ("nonsense",)),
    ("store", "runs", (None, -1)),
    ("locks", "acquire", ([Lock("a", WRONG)], "owner", MINUTE)),
    ("locks", "acquire", ([Lock("a", "semaphore", 0)], "owner", MINUTE)),
    ("schedules", "save", (Schedule("a", None, WRONG),)),
    ("deadletters", "page", (Filter(queue=WRONG), None, 1)),
    ("workers", "beat", (Present("a", WRONG), MINUTE)),
    ("events", "emit", ([b"", WRONG],)),
    ("events", "read", ("nonsense", 1, NOW)),
    ("settler", "settle", ([Entry([Put(RECORD, b""), WRONG])],)),
    ("settler", "settle", ([Entry([Put(RECORD, b""), Do([Once(RECORD, WRONG)])])],)),
]


@pytest.mark.parametrize(("port", "name", "arguments"), MALFORMED)
async def test_b2_what_is_malformed_is_refused_whole(
    backend: MemoryBackend, port: str, name: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(MotetError):
        await getattr(getattr(backend, port), name)(*arguments)

    assert await backend.transport.queues() == []
    assert await backend.store.names("a", "") == []
    assert await backend.locks.held("") == []
    assert await backend.schedules.page(None, 9) == []


async def test_b3_namespaces_do_not_see_each_other() -> None:
    async with (
        memory.open("memory://same", Settings(namespace="one")) as one,
        memory.open("memory://same", Settings(namespace="two")) as two,
        memory.open("memory://same", Settings(namespace="one")) as again,
    ):
        await one.store.put([Put(RECORD, b"1")])
        assert await two.store.get([RECORD]) == [None]
        assert await again.store.get([RECORD]) == [b"1"]


async def test_b4_a_closed_client_refuses_and_leaves_the_others() -> None:
    refused: list[str] = []

    async def waiting(name: str, call: Any) -> None:
        with pytest.raises(UsageError, match="closed"):
            await call
        refused.append(name)

    async with memory.open("memory://b4", Settings()) as other:
        async with anyio.create_task_group() as group, memory.open("memory://b4", Settings()) as closing:
            group.start_soon(waiting, "receive", closing.transport.receive([LANE], 1, MINUTE))
            group.start_soon(waiting, "read", closing.events.read(None, 1, MINUTE))
            await anyio.sleep(0.01)
        assert sorted(refused) == ["read", "receive"]
        for call in (closing.transport.publish([]), closing.store.get([]), closing.settler.settle([])):
            with pytest.raises(UsageError):
                await call
        await other.transport.publish([parcel("a:1")])
        assert await taken(other) == ["a:1"]
