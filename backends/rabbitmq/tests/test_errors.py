"""What a broker refuses: each is told as an error of ours, with what to do next, and no password in it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import missing
import pytest
from guarded import free_port
from rabbitmq_server import Kind, NoServer, RabbitServer, find, server_for

from motet.errors import MotetError, Rejected, TooLarge, Unavailable
from motet_rabbitmq.errors import Foreign, Locked, Lost, Missing, Refusal, translate
from motet_rabbitmq.frames import Frame
from motet_rabbitmq.link import Link
from motet_rabbitmq.location import locate


@pytest.fixture(scope="module")
def strict(kind: Kind | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A broker with TLS, few rights, and little patience for large messages."""
    folder = tmp_path_factory.mktemp("strict")
    certificate(folder)
    files = {name: (folder / name).read_text(encoding="utf-8") for name in ("cert.pem", "key.pem")}
    port = free_port()
    settings = [
        "max_message_size = 65536",
        "channel_max = 3",
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        "ssl_options.cacertfile = FOLDER/cert.pem",
        "ssl_options.certfile = FOLDER/cert.pem",
        "ssl_options.keyfile = FOLDER/key.pem",
    ]
    try:
        made = server_for(kind or Kind("found", find(), ""), folder, settings=settings, files=files)
        assert isinstance(made, RabbitServer)
    except NoServer as none:
        missing.skip("rabbitmq", none)
    with made:
        made.user("worker", "right", rights=("motet.*", "motet.*", "motet.*"))
        made.control("add_user", "stranger", "right")
        yield made


def certificate(folder: Path) -> None:
    """Make a certificate for 127.0.0.1."""
    wanted = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=broker", "-addext")
    files = ("subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem")
    subprocess.run(["openssl", *wanted, *files], cwd=folder, check=True, capture_output=True)


def secure(server: RabbitServer, query: str) -> str:
    port = server.settings[2].rpartition(":")[2]
    return f"amqps://guest:guest@127.0.0.1:{port}/{query}"


@asynccontextmanager
async def linked(url: str, **options: Any) -> AsyncGenerator[Link]:
    link = Link(locate(url), **options)
    try:
        yield link
    finally:
        await link.close()


async def refused(url: str) -> str:
    """Connect, and return what the error says."""
    async with linked(url) as link:
        with pytest.raises(Rejected) as caught:
            await link.connect()
    assert "wrong:" not in str(caught.value)
    return str(caught.value)


def as_user(server: RabbitServer, user: str, password: str, vhost: str = "") -> str:
    return f"amqp://{user}:{password}@127.0.0.1:{server.port}/{vhost}"


async def test_a_wrong_password_is_refused_at_once(strict: RabbitServer) -> None:
    said = await refused(as_user(strict, "worker", "wrong:secret"))

    assert "correct the URL" in said
    assert "secret" not in said


async def test_an_unknown_vhost_is_refused_at_once(strict: RabbitServer) -> None:
    assert "add_vhost" in await refused(as_user(strict, "worker", "right", "nowhere"))


async def test_a_user_without_rights_in_the_vhost_is_told(strict: RabbitServer) -> None:
    assert "set_permissions" in await refused(as_user(strict, "stranger", "right"))


async def test_a_user_without_rights_to_a_queue_is_told(strict: RabbitServer) -> None:
    async with linked(as_user(strict, "worker", "right")) as link:
        await link.topology.declare_queue("motet.mine")
        with pytest.raises(Rejected, match="configure, write and read") as caught:
            await link.topology.declare_queue("foreign")
        assert "foreign" in str(caught.value)


async def test_a_queue_of_somebody_else_is_named_with_what_differs(strict: RabbitServer) -> None:
    async with linked(strict.url) as link:
        await link.topology.declare_queue("theirs", {"x-message-ttl": 5})
        with pytest.raises(Foreign) as caught:
            await link.topology.declare_queue("theirs", {"x-message-ttl": 6})

    assert "'theirs'" in str(caught.value)
    assert "x-message-ttl" in str(caught.value)
    assert "another namespace" in str(caught.value)


async def test_a_queue_that_is_not_empty_is_not_deleted_when_it_should_be(strict: RabbitServer) -> None:
    async with linked(strict.url) as link:
        await link.topology.declare_queue("full")
        channel = await link.channel(mode="confirm")
        await channel.publish([Frame("full", b"")])

        with pytest.raises(Foreign, match="not empty"):
            await link.topology.delete_queue("full", if_empty=True)


async def test_a_queue_of_another_connection_alone_is_locked(strict: RabbitServer) -> None:
    async with linked(strict.url) as link, linked(strict.url) as other:
        await link.topology.declare_queue("alone", exclusive=True)
        with pytest.raises(Locked, match="another connection"):
            await other.topology.look("alone")


async def test_an_exclusive_consumer_locks_out_others(strict: RabbitServer) -> None:
    async with linked(strict.url) as link:
        await link.topology.declare_queue("taken")
        await (await link.channel()).consume("taken", prefetch=1, exclusive=True)
        with pytest.raises(Locked):
            await (await link.channel()).consume("taken", prefetch=1)


async def test_what_is_not_there_is_named(strict: RabbitServer) -> None:
    async with linked(strict.url) as link:
        with pytest.raises(Missing, match="nowhere"):
            await link.topology.purge("nowhere")


async def test_more_than_the_broker_takes_is_too_large(strict: RabbitServer) -> None:
    async with linked(strict.url) as link:
        await link.topology.declare_queue("small")
        channel = await link.channel(mode="confirm")
        with pytest.raises(TooLarge) as caught:
            await channel.publish([Frame("small", bytes(70_000))])

    assert (caught.value.size, caught.value.limit) == (70_000, 65_536)


async def test_a_broker_without_room_for_another_channel_says_so(strict: RabbitServer) -> None:
    async with linked(strict.url) as link:
        for _ in range(3):
            await link.channel()
        with pytest.raises(Unavailable, match="3 channels"):
            await link.channel()


async def test_tls_is_verified_by_default_and_works_when_trusted(strict: RabbitServer) -> None:
    said = await refused(secure(strict, ""))

    assert "?ca=" in said
    async with linked(secure(strict, f"?ca={strict.folder}/cert.pem")) as link:
        await link.topology.declare_queue("over.tls")


async def test_tls_to_a_port_without_it_is_refused_with_a_reason(strict: RabbitServer) -> None:
    assert "TLS failed" in await refused(f"amqps://guest:guest@127.0.0.1:{strict.port}")


async def test_no_tls_to_a_port_with_it_is_refused_with_a_reason(strict: RabbitServer) -> None:
    async with linked(secure(strict, "").replace("amqps", "amqp"), timeout=1) as link:
        with pytest.raises(Unavailable, match="amqps://"):
            await link.connect()


async def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none", encoding="utf-8")

    assert "TLS" in await refused(f"amqps://guest:guest@127.0.0.1:1/?ca={tmp_path}/ca.pem")


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x01\x00\x00"])
async def test_something_else_that_answers_is_refused(greeting: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        assert "no AMQP 0-9-1" in await refused(f"amqp://127.0.0.1:{port}")


async def test_nobody_there_is_unavailable() -> None:
    link = Link(locate("amqp://user:secret@127.0.0.1:1"), timeout=0.2)
    try:
        with pytest.raises(Unavailable, match="no connection") as caught:
            await link.connect()
        assert "secret" not in str(caught.value)
    finally:
        await link.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Refusal(541, "INTERNAL_ERROR"), Unavailable),
        (Refusal(320, "CONNECTION_FORCED - shutdown"), Lost),
        (Refusal(540, "NOT_IMPLEMENTED"), Rejected),
        (Refusal(530, "NOT_ALLOWED - vhost '/' is down"), Unavailable),
        (Refusal(999, "NEW"), Rejected),
        (ConnectionResetError("reset"), Unavailable),
        (TimeoutError(), Unavailable),
        (EOFError("closed"), Lost),
        (ssl.SSLError("bad"), Rejected),
        (RuntimeError("odd"), Rejected),
    ],
)
def test_every_error_becomes_one_of_ours(error: Exception, kind: type[MotetError]) -> None:
    ours = translate(error, "amqp://host")

    assert type(ours) is kind
    assert ours.__cause__ is error
    assert "amqp://host" in str(ours)


def test_ours_stay_as_they_are() -> None:
    error = Lost("gone")

    assert translate(error, "amqp://host") is error
