"""Each numbered clause of the ports, on every backend that is at hand: two clients of one broker."""

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from threading import Thread

import anyio
import pytest

from motet.errors import MotetError
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Backend, Delivery, Entry, Reply, Settings
from motet.ports.ambient import SystemClock
from motet.program import UP, Arrival, Arrive, Conflict, Do, Drop, Flag, Guard, Once, Op, Open, Publish, Put, Retry

Connect = Callable[[], AbstractAsyncContextManager[Backend]]

LEASE = timedelta(seconds=0.4)
NOW = timedelta()
SOON = timedelta(seconds=5)
HIGH, LOW = Lane("q", "small", 0), Lane("q", "small", 2)
OTHER = Lane("other", "large", 1)
ALL = (HIGH, LOW, OTHER)
CLOCK = SystemClock()


def url_of(backend: str, tmp_path: Path) -> str:
    return {"memory": f"memory://{tmp_path.name}", "sqlite": f"sqlite:///{tmp_path}/motet.db"}[backend]


@pytest.fixture(params=["memory", "sqlite"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    """Return a factory: one more client of the same broker."""
    module = importlib.import_module({"memory": "motet.memory", "sqlite": "motet_sqlite"}[request.param])
    url = url_of(request.param, tmp_path)
    return lambda: module.open(url, Settings(lease=LEASE))


@pytest.fixture
async def two(connect: Connect) -> AsyncIterator[tuple[Backend, Backend]]:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(connect())
        yield first, await stack.enter_async_context(connect())


def parcel(
    name: str, lane: Lane = HIGH, *, body: bytes = b"body", due: float | None = None, suspect: bool = False
) -> Parcel:
    when = None if due is None else CLOCK.now() + timedelta(seconds=due)
    return Parcel(name, lane, body, when, suspect)


async def receive(backend: Backend, limit: int = 10, wait: timedelta = SOON) -> list[Delivery]:
    return await backend.transport.receive(ALL, limit, wait)


async def ids(backend: Backend, wait: timedelta = NOW) -> list[str]:
    return [delivery.id for delivery in await receive(backend, wait=wait)]


async def settle(backend: Backend, *program: Op, delivery: Delivery | None = None) -> Reply:
    [reply] = await backend.settler.settle([Entry(program, delivery)])
    return Reply(tuple(reply.conflicts), reply.lost)


async def read(backend: Backend, key: Key) -> bytes | None:
    return (await backend.store.get([key]))[0]


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    with anyio.fail_after(seconds):
        yield


# --- T: transport ----------------------------------------------------------------------------------------------------


async def test_t1_published_parcels_survive_the_sender(connect: Connect) -> None:
    async with connect() as keeper:
        async with connect() as sender:
            await sender.transport.publish([parcel("a:1"), parcel("a:2", OTHER, body=b"\x00\xff")])

        found = {delivery.id: (delivery.lane, delivery.body) for delivery in await receive(keeper)}

    assert found == {"a:1": (HIGH, b"body"), "a:2": (OTHER, b"\x00\xff")}


async def test_t2_a_delivery_is_invisible_while_its_lease_runs(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1")])

    assert await ids(first) == ["a:1"]
    assert await ids(second) == []
    assert await ids(first) == []


async def test_t3_an_unsettled_delivery_comes_back_charged_and_suspect(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1")])
    [taken] = await receive(first)

    async with within(LEASE.total_seconds() + 1):
        [again] = await receive(second)

    assert (taken.deliveries, taken.suspect) == (1, False)
    assert (again.id, again.deliveries, again.suspect) == ("a:1", 2, True)
    assert again.receipt != taken.receipt


async def test_t4_lanes_come_in_their_order_and_the_oldest_first(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish(
        [parcel("o:1", OTHER), parcel("l:1", LOW), parcel("h:1"), parcel("l:2", LOW), parcel("h:2")]
    )

    assert [delivery.id for delivery in await receive(second, limit=4)] == ["h:1", "h:2", "l:1", "l:2"]
    assert await ids(second) == ["o:1"]


async def test_t4_a_lane_that_is_not_asked_for_is_left_alone(two: tuple[Backend, Backend]) -> None:
    first, _ = two
    await first.transport.publish([parcel("o:1", OTHER)])

    assert await first.transport.receive([HIGH, LOW], 10, NOW) == []
    assert await first.transport.receive([], 10, NOW) == []
    assert await ids(first) == ["o:1"]


@pytest.mark.parametrize("step", range(12))
async def test_t5_cancelling_receive_loses_nothing(two: tuple[Backend, Backend], step: int) -> None:
    first, second = two

    async with anyio.create_task_group() as group:
        group.start_soon(receive, first)
        await anyio.sleep(0.01)
        group.start_soon(second.transport.publish, [parcel("a:1")])
        await anyio.sleep(step * 0.0005)
        group.cancel_scope.cancel()
    await second.transport.publish([parcel("a:1")])

    async with within(LEASE.total_seconds() + 1):
        assert await ids(second, SOON) == ["a:1"]


async def test_t6_receive_returns_with_the_first_message_and_at_most_the_limit(two: tuple[Backend, Backend]) -> None:
    first, second = two

    async with anyio.create_task_group() as group, within(2):
        group.start_soon(receive, first)
        await anyio.sleep(0.05)
        await second.transport.publish([parcel("a:1")])
    await second.transport.publish([parcel(f"b:{number}") for number in range(5)])

    assert len(await receive(second, limit=3)) == 3
    assert len(await receive(second, limit=3)) == 2


async def test_t6_receive_returns_nothing_after_wait(two: tuple[Backend, Backend]) -> None:
    first, _ = two
    began = CLOCK.monotonic()

    assert await receive(first, wait=timedelta(seconds=0.2)) == []
    assert 0.19 <= CLOCK.monotonic() - began < 1


async def test_t6_many_receivers_share_what_comes(two: tuple[Backend, Backend]) -> None:
    found: list[str] = []

    async def take(backend: Backend) -> None:
        found.extend(delivery.id for delivery in await receive(backend, limit=1))

    async with anyio.create_task_group() as group, within(2):
        for backend in two * 3:
            group.start_soon(take, backend)
        await anyio.sleep(0.05)
        await two[0].transport.publish([parcel(f"a:{number}") for number in range(6)])

    assert sorted(found) == [f"a:{number}" for number in range(6)]


async def test_t7_release_gives_back_at_once_uncharged(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1"), parcel("a:2")])
    taken = await receive(first)

    await first.transport.release(taken)

    again = await receive(second)
    assert [(delivery.id, delivery.deliveries) for delivery in again] == [("a:1", 1), ("a:2", 1)]


async def test_t7_release_after_a_delay(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1")])
    taken = await receive(first)

    await first.transport.release(taken, timedelta(seconds=0.3))

    assert await ids(second) == []
    async with within(2):
        [again] = await receive(second)
    assert again.deliveries == 1


async def test_t8_a_lost_delivery_is_not_touched_by_its_old_holder(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1")])
    [stale] = await receive(first)
    [taken] = await receive(second)

    await first.transport.release([stale])
    await first.transport.ack([stale])

    assert first.transport.extend([stale.receipt]) == [False]
    assert second.transport.extend([taken.receipt]) == [True]
    assert await second.transport.find(["a"]) == ["held"]


async def test_t9_extend_keeps_a_delivery_from_any_thread(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1")])
    [taken] = await receive(first)
    answers: list[list[bool]] = []

    for _ in range(4):
        await anyio.sleep(LEASE.total_seconds() / 2)
        thread = Thread(target=lambda: answers.append(first.transport.extend([taken.receipt, "nonsense"])))
        thread.start()
        thread.join()

    assert answers == [[True, False]] * 4
    assert await ids(second) == []


async def test_t9_extend_of_a_lease_that_ran_out_is_refused(two: tuple[Backend, Backend]) -> None:
    first, _ = two
    await first.transport.publish([parcel("a:1")])
    [taken] = await receive(first)

    await anyio.sleep(LEASE.total_seconds() + 0.05)

    assert first.transport.extend([taken.receipt]) == [False]


async def test_t10_publishing_an_id_that_is_there_changes_nothing(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1"), parcel("a:1", body=b"other"), parcel("p:1", due=60)])
    await second.transport.publish([parcel("a:1", OTHER), parcel("p:1")])
    [taken] = await receive(first)
    await second.transport.publish([parcel("a:1")])

    assert taken.body == b"body"
    assert await ids(second) == []
    await first.transport.ack([taken])
    await second.transport.publish([parcel("a:1")])
    assert await ids(second) == ["a:1"]


async def test_t11_strikes_are_counted_durably_and_only_by_strike(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1")])
    [taken] = await receive(first)
    assert await first.transport.strike(taken) == 1
    await first.transport.release([taken])
    [again] = await receive(second)

    [lapsed] = await receive(first)

    assert lapsed.deliveries == again.deliveries + 1
    assert await first.transport.strike(lapsed) == 2


async def test_t12_a_paused_queue_delivers_nothing_until_it_is_resumed(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1"), parcel("o:1", OTHER)])
    [held] = await receive(first, limit=1)

    await second.transport.pause("q")
    await second.transport.publish([parcel("a:2", LOW)])

    assert await ids(first) == ["o:1"]
    assert first.transport.extend([held.receipt]) == [True]
    assert [info.queue for info in await first.transport.queues() if info.paused] == ["q"]
    async with anyio.create_task_group() as group, within(2):
        group.start_soon(receive, first)
        await anyio.sleep(0.05)
        await second.transport.pause("q", paused=False)


async def test_t13_find_says_where_the_messages_of_a_run_are(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("held:1")])
    await receive(first)
    await first.transport.publish([parcel("queued:1"), parcel("parked:1", due=60), parcel("alone")])

    runs = ["held", "queued", "parked", "unknown", "queue", "parked:1"]
    assert await second.transport.find(runs) == ["held", "queued", "parked", None, None, None]


async def test_t14_parcels_that_may_have_run_are_delivered_as_suspect(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1"), parcel("a:2", suspect=True), parcel("a:3", due=0.05)])
    await anyio.sleep(0.1)

    found = {delivery.id: delivery.suspect for delivery in await receive(second)}

    assert found == {"a:1": False, "a:2": True, "a:3": True}


async def test_queues_are_counted_over_their_lanes(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1"), parcel("a:2", LOW), parcel("a:3", due=60), parcel("o:1", OTHER)])
    await first.transport.receive([LOW], 1, NOW)

    found = {info.queue: (info.ready, info.held, info.parked, info.paused) for info in await second.transport.queues()}

    assert found == {"q": (1, 1, 1, False), "other": (1, 0, 0, False)}


# --- S: store --------------------------------------------------------------------------------------------------------


async def test_s1_put_once_writes_where_nothing_is(two: tuple[Backend, Backend]) -> None:
    first, second = two
    key = Key("run", "o.0")

    assert await first.store.put_once([Once(key, b"1"), Once(key, b"2"), Once(Key("run", "o.1"), b"")]) == [
        None,
        b"1",
        None,
    ]
    assert await second.store.put_once([Once(key, b"3")]) == [b"1"]
    assert await second.store.get([key, Key("run", "o.1"), Key("run", "o.2")]) == [b"1", b"", None]


async def test_s1_of_two_at_once_one_wins_and_both_learn_it(two: tuple[Backend, Backend]) -> None:
    answers: dict[int, bytes] = {}

    async def write(number: int) -> None:
        mine = str(number).encode()
        [stored] = await two[number % 2].store.put_once([Once(Key("run", "o.0"), mine)])
        answers[number] = mine if stored is None else stored

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(write, number)

    assert len(set(answers.values())) == 1


async def test_s2_who_was_told_of_a_write_reads_it(two: tuple[Backend, Backend]) -> None:
    first, second = two
    key = Key("run", "v")

    for number in range(20):
        value = str(number).encode()
        await (first, second)[number % 2].store.put([Put(key, value)])
        assert await read(second, key) == await read(first, key) == value
    await first.store.drop([key, Key("run", "unknown")])
    assert await read(second, key) is None


async def test_s3_a_slot_counts_once_with_the_failures_of_its_first_arrival(two: tuple[Backend, Backend]) -> None:
    first, second = two
    key = Key("run", "b.0")
    await first.store.open([Open(key, 3, 1, True)])

    assert await first.store.arrive(key, 2, 1) == Arrival(3, 1, 1, 1, True)
    assert await second.store.arrive(key, 2, 0) == Arrival(3, 1, 1, 1, True)
    assert await second.store.arrive(key, 0, 0) == Arrival(3, 2, 1, 1, True)


async def test_s4_arrive_answers_from_the_level(two: tuple[Backend, Backend]) -> None:
    first, second = two
    key = Key("run", "b.0")
    await first.store.open([Open(key, 2)])
    await first.store.arrive(key, 0, 0)
    await first.store.arrive(key, 1, 4)

    assert await second.store.arrive(key, 1, 0) == await second.store.arrive(key, 0, 9) == Arrival(2, 2, 4)
    [barrier] = await second.store.barriers([key])
    assert barrier is not None
    assert (barrier.size, barrier.arrived, barrier.failed) == (2, (0, 1), 4)


async def test_s5_arrive_at_an_unknown_barrier_creates_nothing(two: tuple[Backend, Backend]) -> None:
    first, second = two
    key = Key("run", "b.9")

    assert await first.store.arrive(key, 0, 0) is None
    assert await second.store.barriers([key]) == [None]


async def test_s6_open_of_an_existing_barrier_changes_nothing(two: tuple[Backend, Backend]) -> None:
    first, second = two
    key = Key("run", "b.0")
    await first.store.open([Open(key, 3)])
    await first.store.arrive(key, 1, 1)

    await second.store.open([Open(key, 9, 9, True)])

    assert await second.store.arrive(key, 0, 0) == Arrival(3, 2, 1)
    [barrier] = await first.store.barriers([key])
    assert barrier is not None
    assert barrier.arrived == (1, 0)


async def test_s7_a_record_with_a_ttl_goes_and_one_without_stays(two: tuple[Backend, Backend]) -> None:
    first, second = two
    short, kept = Key("run", "short"), Key("run", "kept")
    ttl = timedelta(seconds=0.15)
    await first.store.put_once([Once(short, b"1", ttl), Once(kept, b"1")])
    await first.store.put([Put(Key("run", "also"), b"1", ttl)])
    assert await second.store.get([short, kept]) == [b"1", b"1"]

    await anyio.sleep(0.2)

    assert await second.store.get([short, kept, Key("run", "also")]) == [None, b"1", None]
    assert await second.store.names("run", "") == ["kept"]
    assert await second.store.put_once([Once(short, b"2")]) == [None]
    assert await first.store.get([short]) == [b"2"]


async def test_s8_sweep_removes_a_run_little_by_little(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.store.put([Put(Key(run, f"o.{number}"), b"1") for run in ("run", "runs", "ru") for number in range(5)])
    await first.store.open([Open(Key("run", "b.0"), 2), Open(Key("runs", "b.0"), 2)])

    assert await second.store.sweep("run", 2) is False
    assert len(await second.store.names("run", "")) >= 3
    rounds = 0
    while not await second.store.sweep("run", 2):
        rounds += 1
        assert rounds < 10
    assert await second.store.sweep("run", 2) is True

    assert await first.store.names("run", "") == []
    assert [barrier is None for barrier in await first.store.barriers([Key("run", "b.0"), Key("runs", "b.0")])] == [
        True,
        False,
    ]
    assert len(await first.store.names("runs", "")) == len(await first.store.names("ru", "")) == 5


async def test_s9_flags_are_read_after_a_cursor(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.store.flag([Flag("old", "", 0, 3)])
    cursor, flags = await second.store.flags(None)
    assert flags == [Flag("old", "", 0, 3)]
    assert await second.store.flags(cursor) == (cursor, [])

    await first.store.flag([Flag("run", "seg", 1, 2), Flag("run", "", 0, 9)])

    later, flags = await second.store.flags(cursor)
    assert flags == [Flag("run", "seg", 1, 2), Flag("run", "", 0, 9)]
    assert (await second.store.flags(later))[1] == []


async def test_s10_names_lists_records_by_their_beginning(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.store.put([Put(Key("run", name), b"1") for name in ("o.1", "o.10", "ox", "p", "o.ü")])

    assert sorted(await second.store.names("run", "o.")) == ["o.1", "o.10", "o.ü"]
    assert len(await second.store.names("run", "")) == 5
    assert await second.store.names("ru", "") == []


async def test_s11_runs_pages_from_the_newest(two: tuple[Backend, Backend]) -> None:
    first, second = two
    for number in range(5):
        run = f"run{'caebd'[number]}"
        await first.store.put([Put(Key(run, "o.0"), b"x")])
        await first.store.put_once([Once(Key(run, "r"), str(number).encode())])
    await first.store.put([Put(Key("none", "rr"), b"x"), Put(Key("runc", "r"), b"new")])

    page = await second.store.runs(None, 2)
    assert page == [("rund", b"4"), ("runb", b"3")]
    assert await second.store.runs(page[-1][0], 9) == [("rune", b"2"), ("runa", b"1"), ("runc", b"new")]
    assert await second.store.runs("runc", 9) == []


# --- D: timers -------------------------------------------------------------------------------------------------------


async def test_d1_a_parked_parcel_comes_when_it_is_due(two: tuple[Backend, Backend]) -> None:
    first, second = two
    began = CLOCK.monotonic()
    await first.timers.park([parcel("a:1", due=0.4)])

    assert await ids(second) == []
    async with within(2):
        assert await ids(second, SOON) == ["a:1"]
    assert 0.35 <= CLOCK.monotonic() - began < 0.8


async def test_d1_a_receiver_that_waits_already_is_woken_when_it_is_due(two: tuple[Backend, Backend]) -> None:
    first, second = two

    async with anyio.create_task_group() as group, within(1):
        group.start_soon(ids, second, SOON)
        await anyio.sleep(0.05)
        await first.timers.park([parcel("a:1", due=0.1)])


async def test_d2_a_parked_parcel_survives_its_sender(connect: Connect) -> None:
    async with connect() as keeper:
        async with connect() as sender:
            await sender.timers.park([parcel("a:1", due=0.1)])
        async with within(2):
            assert await ids(keeper, SOON) == ["a:1"]


async def test_d3_parking_an_id_that_is_there_changes_nothing(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("a:1")])
    await second.timers.park([parcel("a:1", due=60)])
    await first.timers.park([parcel("b:1", due=60)])
    await second.timers.park([parcel("b:1", due=-1)])

    [taken] = await receive(second)
    await first.timers.park([parcel("a:1", due=-1)])

    assert taken.id == "a:1"
    assert await ids(first) == []


async def test_d4_what_comes_through_timers_is_suspect(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.timers.park([parcel("a:1", due=-1)])

    [taken] = await receive(second)

    assert (taken.suspect, taken.deliveries) == (True, 1)


async def test_d5_of_a_cancel_and_a_delivery_one_wins(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.timers.park([parcel(f"a:{number}", due=60) for number in range(3)])
    await first.transport.publish([parcel("q:1")])

    assert await second.timers.cancel(["a:1", "q:1", "unknown"]) == [True, False, False]
    assert await first.timers.cancel(["a:1", "a:0"]) == [False, True]
    assert await first.transport.find(["a", "q"]) == ["parked", "queued"]


@pytest.mark.parametrize("number", range(10))
async def test_d5_a_cancel_races_a_delivery(two: tuple[Backend, Backend], number: int) -> None:
    first, second = two
    await first.timers.park([parcel("race:1", due=0)])
    taken: list[str] = []
    gone = False

    async def take() -> None:
        await anyio.sleep(number * 0.0002)
        taken.extend(await ids(second))

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        [gone] = await first.timers.cancel(["race:1"])

    assert gone != ("race:1" in taken + await ids(second))


# --- N: signals ------------------------------------------------------------------------------------------------------


async def test_n1_a_decision_wakes_the_waiter(two: tuple[Backend, Backend]) -> None:
    first, second = two
    for writer in two:
        run = f"run{id(writer)}"
        async with second.signals.subscribe(run) as wakeups, anyio.create_task_group() as group, within(2):
            group.start_soon(wakeups.wait, timedelta(seconds=10))
            await anyio.sleep(0.05)
            await settle(writer, Once(Key(run, "o.0"), b"1", ends=True))
    assert first is not second


async def test_n1_a_decision_between_two_waits_is_not_missed(two: tuple[Backend, Backend]) -> None:
    first, second = two
    async with second.signals.subscribe("run") as wakeups, within(2):
        await settle(first, Once(Key("run", "o.0"), b"1", ends=True))
        await wakeups.wait(timedelta(seconds=10))


async def test_n2_a_waiter_without_signals_returns_after_its_limit(two: tuple[Backend, Backend]) -> None:
    async with two[0].signals.subscribe("run") as wakeups, within(2):
        await wakeups.wait(timedelta(seconds=0.1))
        await wakeups.wait(timedelta(seconds=0.1))


async def test_n3_a_waiter_that_is_cancelled_leaves_nothing_behind(two: tuple[Backend, Backend]) -> None:
    first, second = two

    async def wait() -> None:
        async with second.signals.subscribe("run") as wakeups:
            await wakeups.wait(timedelta(seconds=10))

    for pause in (0, 0.001, 0.02):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(wait)
            await anyio.sleep(pause)
            group.cancel_scope.cancel()

    await settle(first, Once(Key("run", "o.0"), b"1", ends=True))
    async with second.signals.subscribe("run") as wakeups, within(2):
        await wakeups.wait(timedelta(seconds=0.05))


# --- P: settler ------------------------------------------------------------------------------------------------------


async def test_p1_every_op_takes_effect_and_the_delivery_is_gone(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.store.put([Put(Key("run", "gone"), b"1")])
    await first.transport.publish([parcel("run:0")])
    [taken] = await receive(first)

    reply = await settle(
        first,
        Once(Key("run", "o.0"), b"out"),
        Put(Key("run", "v"), b"value"),
        Drop(Key("run", "gone")),
        Open(Key("run", "b"), 2, 1),
        Retry(Key("run", "a.1"), parcel("run:retry", due=60)),
        Flag("run", "", 0, 1),
        Do([Guard((Key("run", "v"),)), Put(Key("run", "never"), b"")]),
        Publish((parcel("run:1"), parcel("run:2", due=60))),
        delivery=taken,
    )

    assert reply == Reply()
    names = ("o.0", "v", "gone", "never")
    assert await second.store.get([Key("run", name) for name in names]) == [b"out", b"value", None, None]
    assert (await second.store.barriers([Key("run", "b")]))[0] is not None
    assert (await second.store.flags(None))[1] == [Flag("run", "", 0, 1)]
    assert await ids(second) == ["run:1"]
    assert await second.timers.cancel(["run:retry", "run:2"]) == [True, True]
    await anyio.sleep(LEASE.total_seconds() + 0.1)
    assert "run:0" not in await ids(second)


async def test_p1_with_a_conflict_nothing_is_acknowledged(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.transport.publish([parcel("run:0")])
    [taken] = await receive(first)
    await second.store.put_once([Once(Key("run", "o.0"), b"theirs")])

    reply = await settle(first, Once(Key("run", "o.0"), b"mine"), Publish((parcel("run:1"),)), delivery=taken)

    assert reply == Reply((Conflict(Key("run", "o.0"), b"theirs"),))
    assert first.transport.extend([taken.receipt]) == [True]
    assert await ids(second) == []


async def test_p2_settling_twice_changes_nothing_the_second_time(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await first.store.open([Open(Key("run", "b"), 1)])
    fire = Publish((parcel("run:1"),))
    program = (Once(Key("run", "o.0"), b"1"), Arrive(Key("run", "b"), 0, 0, (Once(Key("run", "o.g"), b"2"), fire)))

    await settle(first, *program)
    taken = await receive(second)
    await settle(second, *program, delivery=taken[0])
    await settle(first, *program)

    assert [delivery.id for delivery in taken] == ["run:1"]
    again = await receive(second, wait=timedelta(seconds=LEASE.total_seconds() + 0.2))
    # Without `atomic` the continuation is published again, but marked: it may have run before.
    assert all(delivery.suspect for delivery in again)
    assert not (again and first.capabilities.atomic)


async def test_p3_a_conflict_ends_its_branch_only(two: tuple[Backend, Backend]) -> None:
    first, second = two
    await second.store.put_once([Once(Key("run", "x"), b"theirs")])

    reply = await settle(
        first,
        Do([Once(Key("run", "x"), b"mine"), Put(Key("run", "inside"), b"1")]),
        Put(Key("run", "outside"), b"1"),
    )

    assert reply.conflicts == (Conflict(Key("run", "x"), b"theirs"),)
    assert await first.store.get([Key("run", "inside"), Key("run", "outside")]) == [None, b"1"]


async def test_p3_a_barrier_chooses_its_branch_by_its_level(two: tuple[Backend, Backend]) -> None:
    first, second = two
    inner, outer = Key("run", "b.1"), Key("run", "b.0")
    await settle(first, Open(outer, 1), Open(inner, 2, 0))

    def arrive(slot: int, failed: int) -> Arrive:
        ok, err = Put(Key("run", "ok"), b"1"), Put(Key("run", "err"), b"1")
        return Arrive(inner, slot, failed, (), (Arrive(outer, 0, UP, (ok,), (err,)),))

    await first.settler.settle([Entry([arrive(0, 1)]), Entry([arrive(1, 0)])])

    assert await second.store.get([Key("run", "ok"), Key("run", "err")]) == [None, b"1"]
    assert (await settle(second, Arrive(Key("run", "closed"), 0, 0, (Put(Key("run", "no"), b""),)))) == Reply()
    assert await read(second, Key("run", "no")) is None


async def test_p4_a_lost_delivery_has_no_effect(two: tuple[Backend, Backend]) -> None:
    first, second = two
    if not first.capabilities.atomic:
        pytest.skip("only promised with `atomic`")
    await first.transport.publish([parcel("run:0")])
    [stale] = await receive(first)
    [taken] = await receive(second)

    reply = await settle(first, Put(Key("run", "v"), b"1"), Publish((parcel("run:1"),)), delivery=stale)

    assert reply.lost
    assert await read(second, Key("run", "v")) is None
    assert (await settle(second, Put(Key("run", "v"), b"2"), delivery=taken)) == Reply()
    assert (await settle(second, Put(Key("run", "v"), b"3"), delivery=taken)).lost
    assert await read(first, Key("run", "v")) == b"2"


async def test_p6_an_entry_that_fails_does_not_undo_the_others(two: tuple[Backend, Backend]) -> None:
    first, second = two
    bad = Entry([Put(Key("run", "half"), b"1"), Publish((parcel("run:bad", body=object()),))])  # type: ignore[arg-type]
    good = [Entry([Put(Key("run", f"v.{number}"), b"1"), Publish((parcel(f"run:{number}"),))]) for number in range(2)]

    with pytest.raises(MotetError):
        await first.settler.settle([good[0], bad, good[1]])

    assert await second.store.names("run", "") == ["v.0", "v.1"]
    assert sorted(await ids(second)) == ["run:0", "run:1"]


async def test_p6_entries_of_a_batch_see_each_other_in_order(two: tuple[Backend, Backend]) -> None:
    first, second = two
    size = 100
    fire = (Once(Key("run", "o.g"), b"1", ends=True), Publish((parcel("run:next"),)))
    await settle(first, Open(Key("run", "b"), size))

    replies = await first.settler.settle(
        [
            Entry([Once(Key("run", f"o.{slot}"), b"x"), Arrive(Key("run", "b"), slot, 0, fire)])
            for slot in reversed(range(size))
        ]
    )

    assert not any(reply.conflicts or reply.lost for reply in replies)
    assert len(replies) == size
    assert await ids(second) == ["run:next"]
    [barrier] = await second.store.barriers([Key("run", "b")])
    assert barrier is not None
    assert barrier.arrived == tuple(reversed(range(size)))


async def test_p7_what_a_settlement_published_survives_its_sender(connect: Connect) -> None:
    async with connect() as keeper:
        async with connect() as sender:
            await settle(sender, Publish((parcel("a:1"), parcel("a:2", due=0.05))))
        await anyio.sleep(0.1)
        assert sorted(await ids(keeper)) == ["a:1", "a:2"]


async def test_p8_a_retry_is_parked_once(two: tuple[Backend, Backend]) -> None:
    first, second = two
    retry = Retry(Key("run", "a.2"), parcel("run:2", due=-1))

    await settle(first, retry)
    [taken] = await receive(second)
    await settle(second, delivery=taken)
    await settle(first, retry)

    assert await ids(second) == []


async def test_locks_are_offered_or_refused(two: tuple[Backend, Backend]) -> None:
    first, _ = two
    if first.capabilities.locks:
        assert first.locks is not None
    else:
        with pytest.raises(MotetError, match="locks"):
            _ = first.locks
