"""Ways to a server that are not plain TCP on the loopback: TLS, and sockets in a folder; with users of Redis."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from guarded import HOST
from redis_server import RedisServer, program

from motet.errors import Rejected, Unavailable
from motet.message import Parcel
from motet.options import Lane
from motet.ports import Settings
from motet_redis import open as open_redis

LANE = Lane("q", "small", 0)
SETTINGS = Settings(timeout=timedelta(seconds=2))


async def used(url: str) -> None:
    """Use every kind of connection: the shared one, one that waits for a bell, and that of other threads."""
    async with open_redis(url, SETTINGS) as backend:
        assert await backend.transport.receive([LANE], 1, timedelta(seconds=0.05)) == []
        await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
        (held,) = await backend.transport.receive([LANE], 1, timedelta())
        assert await asyncio.to_thread(backend.transport.extend, [held.receipt]) == [True]
        await backend.transport.ack([held])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates: of an authority, of the server, and of a client."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    for name, issued in (("server", authority.issue_cert(HOST)), ("client", authority.issue_cert("client"))):
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        with (folder / f"{name}.pem").open("wb") as file:
            file.writelines(blob.bytes() for blob in issued.cert_chain_pems)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(program(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextlib.asynccontextmanager
async def over_tls(folder: Path, server: RedisServer, *, clients: bool = False) -> AsyncIterator[str]:
    """TLS in front of a server, for not every build speaks it; `clients` says whether they must show a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE

    writers: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside = await asyncio.open_connection(HOST, server.port)
        await asyncio.gather(copy(reader, inside[1]), copy(inside[0], writer))

    async with await asyncio.start_server(serve, HOST, 0, ssl=context) as front:
        yield f"rediss://{HOST}:{front.sockets[0].getsockname()[1]}"
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def trusting(folder: Path, name: str = "ca.pem") -> str:
    return f"?ssl_ca_certs={quote(str(folder / name))}"


async def test_tls_is_spoken_where_the_certificate_is_trusted(folder: Path, server: RedisServer) -> None:
    async with over_tls(folder, server) as url:
        await used(url + trusting(folder))


@pytest.mark.parametrize("other", [False, True], ids=["nobody", "another authority"])
async def test_a_certificate_that_nobody_vouches_for_is_refused(folder: Path, server: RedisServer, other: bool) -> None:
    async with over_tls(folder, server) as url:
        with pytest.raises(Rejected, match="certificate that is trusted"):
            await used(url + (trusting(folder, "other.pem") if other else ""))


async def test_a_server_may_want_a_certificate_of_its_clients(folder: Path, server: RedisServer) -> None:
    shown = f"&ssl_certfile={quote(str(folder / 'client.pem'))}&ssl_keyfile={quote(str(folder / 'client.key'))}"
    async with over_tls(folder, server, clients=True) as url:
        await used(url + trusting(folder) + shown)
        with pytest.raises((Rejected, Unavailable)):
            await used(url + trusting(folder))


async def test_a_socket_in_a_folder_takes_users_passwords_and_databases(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(program(), options=("--unixsocket", str(path))) as server:
        server.command("ACL", "SETUSER", "worker", "on", ">sec/ret", "~{motet}*", "+@all")

        await used(f"unix://worker:{quote('sec/ret', safe='')}@{path}?db=3")

        assert int(server.info("keyspace")["db3"]["keys"]) > 0
        with pytest.raises(Rejected, match="wrong user or password") as caught:
            await used(f"unix://worker:wrong-one@{path}")
        assert "wrong-one" not in str(caught.value)
