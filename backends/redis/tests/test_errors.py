"""What a server refuses, or cannot do: each is told as an error of ours, with what to do next; and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from redis_server import RedisServer, program, start_cluster

from motet.errors import BadBackend, Rejected, Unavailable
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Entry, Settings
from motet.program import Once, Publish
from motet_redis import RedisBackend
from motet_redis import open as open_redis

LANE = Lane("mail", "small", 1)
SOON = Settings(timeout=timedelta(seconds=1))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(program(), tmp_path) as server:
        yield server


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[RedisBackend]:
    async with open_redis(url, SOON) as backend:
        yield backend


async def refused(url: str) -> str:
    """Open, and return what the error says."""
    with pytest.raises(Rejected) as caught:
        async with opened(url):
            pass
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["mysql://host", "redis+sentinel://host", "redis://host/0?socket_timeout=soon", "redis+sentinel:///service"],
)
async def test_a_url_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(BadBackend):
        async with opened(url):
            pass


async def test_nobody_there_is_unavailable_and_no_password_is_told() -> None:
    with pytest.raises(Unavailable) as caught:
        async with opened("redis://user:secret@127.0.0.1:1"):
            pass

    assert "no connection" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_wrong_password_is_refused_at_once(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "requirepass", "right")

    said = await refused(f"redis://:wrong@127.0.0.1:{server.port}")

    assert "correct the URL" in said
    assert "wrong@" not in said


async def test_a_missing_password_is_refused_at_once(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "requirepass", "right")

    assert "wrong user or password" in await refused(f"redis://127.0.0.1:{server.port}")


async def test_tls_to_a_server_without_it_is_refused_with_a_reason(server: RedisServer) -> None:
    with pytest.raises((Rejected, Unavailable)) as caught:
        async with opened(f"rediss://127.0.0.1:{server.port}"):
            pass

    assert "rediss://" in str(caught.value)


async def test_a_policy_that_throws_keys_away_is_refused(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", "100mb")
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    assert "noeviction" in await refused(server.url)


async def test_a_server_without_aof_is_used_and_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(program(), tmp_path, aof=False) as server:
        async with opened(server.url):
            pass

    assert "appendonly yes" in caplog.text


async def test_a_replica_is_named_as_such(server: RedisServer, tmp_path: Path) -> None:
    with RedisServer(program(), tmp_path) as replica:
        replica.replica_of(server)
        async with opened(replica.url) as backend:
            with pytest.raises(Unavailable, match="read-only replica"):
                await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])


async def test_a_node_of_a_cluster_is_named_as_such(tmp_path: Path) -> None:
    with start_cluster(program(), tmp_path) as cluster:
        other = next(node for node in cluster.servers if node is not cluster.holder("{motet}"))
        async with opened(f"redis://127.0.0.1:{other.port}") as backend:
            with pytest.raises(Unavailable, match=r"redis\+cluster://"):
                await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])


async def test_a_full_server_refuses_and_nothing_is_lost(server: RedisServer) -> None:
    async with opened(server.url) as backend:
        await backend.transport.publish([Parcel("before:0:r1", LANE, b"")])
        (held,) = await backend.transport.receive([LANE], 1, timedelta())
        server.command("CONFIG", "SET", "maxmemory", "1mb")
        settle = Entry([Once(Key("before", "o.0"), b"done"), Publish((Parcel("after:0:r1", LANE, b""),))], held)

        with pytest.raises(Unavailable, match="out of memory"):
            await backend.settler.settle([settle])
        with pytest.raises(Unavailable, match="out of memory"):
            await backend.transport.publish([Parcel("other:0:r1", LANE, b"")])

        assert await backend.transport.find(["before", "after", "other"]) == ["held", None, None]
        server.command("CONFIG", "SET", "maxmemory", "0")
        assert not (await backend.settler.settle([settle]))[0].lost
        assert await backend.transport.find(["before", "after"]) == [None, "queued"]


async def test_m3_data_of_others_under_our_keys_is_named_and_stops_nobody_else(server: RedisServer) -> None:
    server.command("SET", "{motet}:s:theirs", "not a hash")
    async with opened(server.url) as backend:
        await backend.transport.publish([Parcel(f"{run}:0:r1", LANE, b"") for run in ("theirs", "ours")])
        theirs, ours = await backend.transport.receive([LANE], 2, timedelta())
        entries = [
            Entry([Once(Key(delivery.id.partition(":")[0], "o.0"), b"done")], delivery) for delivery in (theirs, ours)
        ]

        with pytest.raises(Rejected, match="somebody else's data"):
            await backend.settler.settle(entries)

        assert await backend.transport.find(["theirs", "ours"]) == ["held", None]
        assert await backend.store.get([Key("ours", "o.0")]) == [b"done"]
