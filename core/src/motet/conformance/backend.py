"""Clauses B1 to B6, and all contracts in one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from motet.conformance.admissions import AdmissionContract
from motet.conformance.contract import Contract, proves
from motet.conformance.deadletters import DeadLettersContract
from motet.conformance.events import EventsContract
from motet.conformance.locks import LocksContract
from motet.conformance.mishaps import MishapContract
from motet.conformance.schedules import SchedulesContract
from motet.conformance.settler import SettlerContract
from motet.conformance.signals import SignalsContract
from motet.conformance.stage import NOW, SOON, Stage
from motet.conformance.store import StoreContract
from motet.conformance.timers import TimersContract
from motet.conformance.transport import TransportContract
from motet.conformance.workers import WorkersContract
from motet.conformance.workflows import WorkflowContract
from motet.errors import MotetError, NotSupported
from motet.message import DeadLetter, Key
from motet.options import Lane
from motet.outcome import ErrorInfo
from motet.ports import Admission, Backend, Entry, Grant, Lock, Present, Rule, Schedule
from motet.program import Once, Open, Put

__all__ = ["BackendContract", "ClientContract"]

LONG = timedelta(seconds=60)
OPTIONAL = ("locks", "events")


async def refuses(call: Callable[[], Awaitable[Any]]) -> bool:
    """Say whether a call fails as it should."""
    try:
        await call()
    except MotetError:
        return True
    return False


class ClientContract(Contract):
    """What a backend is as a whole."""

    @proves("B1")
    async def test_b1_what_is_declared_is_offered_and_the_rest_refused(self, stage: Stage) -> None:
        for name in OPTIONAL:
            if getattr(stage.a.capabilities, name):
                assert getattr(stage.a, name) is not None
            else:
                with pytest.raises(NotSupported, match=name):
                    getattr(stage.a, name)

    @proves("B2", repeats=False)
    async def test_b2_malformed_input_is_refused_and_other_calls_go_on(self, stage: Stage) -> None:
        wrong: Any = object()
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: stage.a.transport.publish([stage.parcel(":bad", body=wrong)]),
            lambda: stage.a.timers.park([stage.parcel(":bad", body=wrong, due=1)]),
            lambda: stage.a.store.put([Put(stage.key("bad"), wrong)]),
            lambda: stage.a.store.put_once([Once(stage.key("bad"), wrong)]),
            lambda: stage.a.schedules.save(Schedule(stage.name("bad"), None, wrong)),
            lambda: stage.a.settler.settle([Entry([Put(stage.key("bad"), wrong)])]),
            lambda: stage.a.transport.admit(
                [Admission(stage.name("bad"), Rule.FIRST, stage.parcel(":bad", body=wrong), SOON)]
            ),
        ]
        for call in calls:
            with pytest.raises(MotetError):
                await call()
            await stage.a.store.put([Put(stage.key("good"), b"1")])

        assert await stage.b.store.names(stage.run, "") == ["good"]
        assert await stage.taken(stage.b) == []

    @proves("B3", repeats=False)
    async def test_b3_namespaces_do_not_see_each_other(self, stage: Stage) -> None:
        stranger = await stage.connect("stranger")
        await stage.a.transport.publish([stage.parcel(":1")])
        await stage.a.store.put([Put(stage.key("r"), b"1")])
        await stage.a.store.open([Open(stage.key("b"), 2)])
        await stage.a.schedules.save(Schedule(stage.name("s"), stage.clock.now()))
        await stage.a.transport.pause(stage.other)

        assert await stage.taken(stranger) == []
        assert await stranger.transport.find([stage.run]) == [None]
        assert await stranger.store.get([stage.key("r")]) == [None]
        assert await stranger.store.barriers([stage.key("b")]) == [None]
        assert await stranger.schedules.get([stage.name("s")]) == [None]
        assert stage.other not in {info.queue for info in await stranger.transport.queues()}
        assert await stage.taken(stage.b) == [":1"]

    @proves("B3", repeats=False)
    async def test_b3_names_mean_another_thing_in_another_namespace(self, stage: Stage) -> None:
        stranger = await stage.connect("stranger")
        name, first = stage.name("x"), Admission(stage.name("x"), Rule.FIRST, stage.parcel(".1:1"), SOON)
        buried = DeadLetter(name, stage.high, "app:task", b"", ErrorInfo("exception"), stage.clock.now())
        for number, backend in enumerate((stage.a, stranger)):
            assert await backend.store.add(stage.key("n"), 1) == 1
            assert await backend.store.put_once([Once(stage.key("o.0"), b"1")]) == [None]
            assert await backend.deadletters.get([name]) == [None]
            await backend.deadletters.bury([buried])
            assert name not in {each.id for each in await backend.workers.present()}
            await backend.workers.beat(Present(name, b""), SOON)
            if backend.capabilities.locks:
                granted = await backend.locks.acquire([Lock(name, "mutex")], f"{name}{number}", SOON)
                assert isinstance(granted, Grant)
            [standing] = await backend.transport.admit([first])
            assert standing == first.parcel.id
            assert await stage.taken(backend) == [".1:1"]

    @proves("B4", repeats=False)
    async def test_b4_a_client_that_is_closed_refuses_and_leaves_the_others(self, stage: Stage) -> None:
        async with anyio.create_task_group() as group:
            async with stage.client() as closed:
                await closed.store.put([Put(stage.key("v"), b"1")])
                group.start_soon(stage.one, stage.b)
                await stage.sleep(0.05)
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "store": lambda: closed.store.get([stage.key("v")]),
                "transport": lambda: closed.transport.publish([stage.parcel(":lost")]),
                "timers": lambda: closed.timers.cancel([stage.id(":lost")]),
                "schedules": lambda: closed.schedules.get([stage.name("s")]),
                "deadletters": lambda: closed.deadletters.get([stage.name("x")]),
                "workers": closed.workers.present,
                "settler": lambda: closed.settler.settle([Entry([Put(stage.key("v"), b"lost")])]),
            }
            answered = [port for port, call in calls.items() if not await refuses(call)]
            assert answered == []
            await stage.a.transport.publish([stage.parcel(":1")])

        assert await stage.read(stage.a, "v") == b"1"

    @proves("B4", repeats=False)
    async def test_b4_closing_does_not_wait_for_a_receiver(self, stage: Stage) -> None:
        async def receive(client: Backend) -> None:
            try:
                await stage.take(client)
            except MotetError:
                return

        began = stage.now
        async with anyio.create_task_group() as group:
            async with stage.client() as client:
                group.start_soon(receive, client)
                await stage.sleep(0.05)
            group.cancel_scope.cancel()

        assert stage.now - began < SOON.total_seconds() / 2

    @proves("B5", needs="durable", repeats=False, patient=True)
    async def test_b5_what_was_accepted_survives_a_restart(self, stage: Stage) -> None:
        schedule = Schedule(stage.name("s"), stage.clock.now().replace(microsecond=0), b"spec")
        buried = DeadLetter(stage.name("x"), stage.high, "app:task", b"", ErrorInfo("exception"), stage.clock.now())
        await stage.a.transport.publish([stage.parcel(f".{number}:1") for number in range(5)])
        await stage.a.timers.park([stage.parcel(".parked:1", due=1)])
        await stage.a.store.put([Put(stage.key("v"), b"1")])
        await stage.a.store.open([Open(stage.key("b"), 2)])
        await stage.a.store.arrive(stage.key("b"), 1, 0)
        await stage.a.schedules.save(schedule)
        await stage.a.transport.pause(stage.other)
        await stage.a.deadletters.bury([buried])
        await stage.a.transport.admit([Admission(stage.name("key"), Rule.FIRST, stage.parcel(".keyed:1"), LONG)])

        await stage.restart()

        found: set[str] = set()
        while len(found) < 7:
            taken = await stage.taken(stage.b, wait=SOON)
            assert taken
            found |= set(taken)
        assert await stage.read(stage.b, "v") == b"1"
        [barrier] = await stage.b.store.barriers([stage.key("b")])
        assert barrier is not None
        assert barrier.arrived == (1,)
        [kept] = await stage.a.schedules.get([schedule.name])
        assert kept is not None
        assert kept.spec == b"spec"
        assert [info.paused for info in await stage.a.transport.queues() if info.queue == stage.other] == [True]
        assert [each and each.id for each in await stage.b.deadletters.get([buried.id])] == [buried.id]
        late = Admission(stage.name("key"), Rule.FIRST, stage.parcel(".late:1"), LONG)
        assert await stage.b.transport.admit([late]) == [stage.id(".keyed:1")]

    @proves("B5", needs="durable", repeats=False)
    async def test_b5_open_clients_carry_on_after_a_restart(self, stage: Stage) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stage.one, stage.b)
            await stage.sleep(0.05)
            await stage.restart()
            give_up = stage.now + 30
            while stage.now < give_up:
                try:
                    await stage.a.transport.publish([stage.parcel(":1")])
                except MotetError:
                    await stage.sleep(0.1)
                else:
                    break

    @proves("B6")
    async def test_b6_calls_of_one_client_may_be_made_at_once(self, stage: Stage) -> None:
        async def work(number: int) -> None:
            lane = Lane(stage.queue, "small", number % 3)
            await stage.a.transport.publish([stage.parcel(f".{number}:1", lane)])
            await stage.a.store.put([Put(Key(stage.run, f"v.{number}"), str(number).encode())])
            assert await stage.read(stage.a, f"v.{number}") == str(number).encode()

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(work, number)

        lanes = [Lane(stage.queue, "small", priority) for priority in range(3)]
        assert len(await stage.take(stage.a, lanes, 100, NOW)) == 30


class BackendContract(
    ClientContract,
    TransportContract,
    AdmissionContract,
    StoreContract,
    TimersContract,
    SchedulesContract,
    DeadLettersContract,
    LocksContract,
    SignalsContract,
    SettlerContract,
    WorkersContract,
    EventsContract,
    WorkflowContract,
    MishapContract,
):
    """Every contract that there is: subclass this, and write `connect`."""
