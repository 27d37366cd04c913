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
from motet.ports import Admission, Entry, Filter, Lock, Present, Rule, Schedule, Settings
from motet.program import Do, Once, Put

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


def admission(name: str, rule: Rule, **parcel_options: Any) -> Admission:
    return Admission("key", rule, parcel(f"{name}:1", **parcel_options), MINUTE, replaced=name.encode())


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


# Schedules, dead letters, workers, events.


def letter(number: int, clock: VirtualClock, *, kind: str = "exception") -> DeadLetter:
    error = ErrorInfo(kind=kind, message="m", task="t")
    return DeadLetter(f"a:{number}", LANE, "t", b"body", error, clock.now() + timedelta(seconds=number))


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
