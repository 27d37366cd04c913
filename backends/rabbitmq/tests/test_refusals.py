"""What a client of all ports is told when the broker refuses, is full, or has been used by somebody else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import count

import anyio
import anyio.to_thread
import pytest
from rabbitmq_server import Kind, RabbitServer, server_for

from motet.errors import MotetError, Rejected, TooLarge, Unavailable
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Entry, Settings
from motet.program import Once, Put
from motet_rabbitmq import open as open_rabbitmq
from motet_rabbitmq.errors import BackendFull, Foreign
from motet_rabbitmq.frames import Frame
from motet_rabbitmq.link import Link
from motet_rabbitmq.location import locate

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
LANE = Lane("q", "small", 0)
numbers = count()


@pytest.fixture(scope="module")
def strict(kind: Kind | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A broker with little patience for large messages, and a user who may not make anything."""
    with server_for(kind, tmp_path_factory.mktemp("strict"), settings=("max_message_size = 300000",)) as made:
        if not isinstance(made, RabbitServer):
            pytest.skip("a server that somebody else started is not ours to configure")
        yield made


@pytest.fixture
def settings() -> Settings:
    return Settings(namespace=f"refused{next(numbers)}", timeout=timedelta(seconds=2))


async def test_a_user_who_may_not_make_queues_is_told(strict: RabbitServer, settings: Settings) -> None:
    url = await anyio.to_thread.run_sync(lambda: strict.user("weak", "right", rights=("^$", ".*", ".*")))

    with pytest.raises(Rejected, match="configure"):
        await open_rabbitmq(url, settings).__aenter__()


async def test_a_queue_of_somebody_else_under_our_name_is_told(strict: RabbitServer, settings: Settings) -> None:
    link = Link(locate(strict.url))
    await link.topology.declare_queue(f"motet.{settings.namespace}.shard.0")

    with pytest.raises(Foreign, match="namespace"):
        await open_rabbitmq(strict.url, settings).__aenter__()
    await link.close()


async def test_more_than_the_broker_takes_is_too_large_and_other_calls_go_on(
    strict: RabbitServer, settings: Settings
) -> None:
    async with open_rabbitmq(strict.url, settings) as backend:
        with pytest.raises(TooLarge):
            await backend.transport.publish([Parcel("a:1", LANE, b"x" * 400_000)])

        give_up = time.monotonic() + 10
        while time.monotonic() < give_up:
            with suppress(Unavailable):
                await backend.transport.publish([Parcel("a:2", LANE, b"x")])
                break
        assert await backend.transport.find(["a"]) == ["queued"]


async def test_an_alarm_is_told_and_passes(strict: RabbitServer, settings: Settings) -> None:
    async with open_rabbitmq(strict.url, settings) as backend:
        await backend.store.put([Put(Key("a", "v"), b"1")])
        await anyio.to_thread.run_sync(strict.control, "set_vm_memory_high_watermark", "0.00001")
        try:
            await anyio.sleep(1)  # for the alarm to be raised
            with pytest.raises(Unavailable):
                await backend.store.put([Put(Key("a", "v"), b"2")])
        finally:
            await anyio.to_thread.run_sync(strict.control, "set_vm_memory_high_watermark", "0.4")

        value: list[bytes | None] = []
        give_up = time.monotonic() + 20
        while not value and time.monotonic() < give_up:
            with suppress(MotetError):
                await backend.store.put([Put(Key("a", "v"), b"3")])
                value = await backend.store.get([Key("a", "v")])
        assert value == [b"3"]


async def test_c5_a_full_shard_takes_nothing_new_and_lets_runs_end(strict: RabbitServer, settings: Settings) -> None:
    async with open_rabbitmq(f"{strict.url}?shards=1", settings) as backend:
        await backend.transport.publish([Parcel("a:1", LANE, b"x")])
        [taken] = await backend.transport.receive([LANE], 1, timedelta(seconds=5))
        shard = backend.owners.shard(0)
        assert shard is not None
        shard.machine.most = 10

        with pytest.raises(BackendFull, match="more shards"):
            await backend.transport.publish([Parcel("a:2", LANE, b"x")])

        [reply] = await backend.settler.settle([Entry([Once(Key("a", "o.0"), b"1")], taken)])
        assert not reply.conflicts
        assert await backend.store.get([Key("a", "o.0")]) == [b"1"]


async def test_what_is_no_message_of_ours_is_delivered_to_be_buried(strict: RabbitServer, settings: Settings) -> None:
    async with open_rabbitmq(strict.url, settings) as backend:
        assert await backend.transport.receive([LANE], 1, timedelta(seconds=0.1)) == []
        channel = await backend.asking.connected()
        for body in (b"junk", b"", b"\xc1" * 100):
            await channel.publish([Frame(backend.asking.names.lane(LANE), body)])

        found = await backend.transport.receive([LANE], 9, timedelta(seconds=5))
        while len(found) < 3:
            found += await backend.transport.receive([LANE], 9, timedelta(seconds=5))

        assert [each.body for each in found] == [b"junk", b"", b"\xc1" * 100]
        assert len({each.id for each in found}) == 3
        await backend.transport.ack(found)
        assert await backend.transport.receive([LANE], 9, timedelta(seconds=0.3)) == []
