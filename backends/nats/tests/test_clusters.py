"""Three servers that agree before each answer: what they say while they do not, and what a client makes of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import count

import anyio
import anyio.to_thread
import missing
import pytest
from nats_cluster import NatsCluster
from nats_server import NoServer, find

from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Settings
from motet.program import Once
from motet_nats import NatsBackend
from motet_nats import open as open_nats

pytestmark = pytest.mark.timeout(60)  # to elect who leads takes up to ten seconds, and longer on a busy machine
LANE = Lane("mail", "small", 1)
PATIENT = timedelta(seconds=30)
numbers = count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    try:
        program = find()
    except NoServer as none:
        missing.skip("nats", none)
    with NatsCluster(program, tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture
async def backend(cluster: NatsCluster) -> AsyncIterator[NatsBackend]:
    settings = Settings(namespace=f"cluster{next(numbers)}", timeout=PATIENT)
    async with open_nats(cluster.url, settings) as backend:
        yield backend


@pytest.mark.parametrize("stream", ["messages", "records"])
async def test_what_is_asked_again_before_the_followers_have_confirmed_it_is_done_once(
    cluster: NatsCluster, backend: NatsBackend, stream: str
) -> None:
    """A leader answers a repetition with an error of its own while nobody knows what becomes of the first."""
    await backend.transport.publish([Parcel("before:0", LANE, b"")])  # so that there is the lane
    leader = await anyio.to_thread.run_sync(cluster.leader, getattr(backend.client.names, stream))
    followers = [node for node in cluster.nodes if node is not leader]
    answers: list[object] = []
    async with open_nats(f"{leader.url}?replicas=3", backend.client.settings) as asking:

        async def ask() -> None:
            if stream == "messages":
                await asking.transport.publish([Parcel("run:0", LANE, b"")])
                answers.append(None)
            else:
                answers.extend(await asking.store.put_once([Once(Key("run", "o.0"), b"1")]))

        asking.transport.lanes.known.add(LANE)
        async with anyio.create_task_group() as group:
            for node in followers:
                node.pause()
            try:
                group.start_soon(ask)
                await anyio.sleep(2.5)  # the fault itself: longer than a question waits before it is asked again
                assert answers == []
            finally:
                for node in followers:
                    node.go_on()

    assert answers == [None]
    taken = await backend.transport.receive([LANE], 10, timedelta(seconds=5))
    assert [each.id for each in taken] == ["before:0", "run:0"][: 2 if stream == "messages" else 1]


async def test_a_lane_that_is_being_made_keeps_nobody_from_another(
    backend: NatsBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster elects a leader for each: one after the other, many lanes would take as many elections."""
    make, go_on = backend.transport.lanes.make, anyio.Event()
    begun: list[Lane] = []

    async def slow(lane: Lane) -> None:
        begun.append(lane)
        if lane == LANE:
            await go_on.wait()
        await make(lane)

    monkeypatch.setattr(backend.transport.lanes, "make", slow)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(backend.transport.publish, [Parcel(f"first:{number}", LANE, b"")])
            await anyio.wait_all_tasks_blocked()
            for priority in (0, 2):
                await backend.transport.publish([Parcel(f"other:{priority}", LANE._replace(priority=priority), b"")])
            go_on.set()

    assert sorted(each.priority for each in begun) == [0, 1, 2]
    taken = await backend.transport.receive([LANE], 10, timedelta(seconds=5))
    assert [each.id for each in taken] == [f"first:{number}" for number in range(3)]
