"""What a server refuses, or cannot do: each is told as an error of ours, with what to do next; and nothing is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import nats
import pytest
from nats_server import NatsServer, find

from motet.errors import BadBackend, Rejected, TooLarge, Unavailable
from motet.message import Key, Parcel
from motet.options import Lane
from motet.ports import Admission, Rule, Settings
from motet.program import Put
from motet_nats import NatsBackend
from motet_nats import open as open_nats

LANE = Lane("mail", "small", 1)
SOON = Settings(timeout=timedelta(seconds=1))
USERS = """
authorization {
  users: [
    { user: "worker", password: "right", permissions: {
        publish: ["motet.>", "$JS.API.>", "$JS.ACK.>"], subscribe: ["motet.>", "_INBOX.>"] } }
    { user: "guest", password: "right", permissions: { publish: ["other.>"], subscribe: ["_INBOX.>"] } }
  ]
}"""


@asynccontextmanager
async def opened(url: str, settings: Settings = SOON) -> AsyncGenerator[NatsBackend]:
    async with open_nats(url, settings) as backend:
        yield backend


async def refused(url: str) -> str:
    """Open, and return what the error says."""
    with pytest.raises(Rejected) as caught:
        async with opened(url):
            pass
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["mysql://host", "nats://host:port", "nats://host?replicas=many", "nats://host?sink=1", "nats://host/path"],
)
async def test_a_url_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(BadBackend):
        async with opened(url):
            pass


async def test_nobody_there_is_unavailable_and_no_password_is_told() -> None:
    with pytest.raises(Unavailable) as caught:
        async with opened("nats://user:secret@127.0.0.1:1"):
            pass

    assert "no connection" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_one_of_several_servers_is_enough(own_server: NatsServer) -> None:
    async with opened(f"nats://127.0.0.1:1,127.0.0.1:{own_server.port}") as backend:
        await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
        assert await backend.transport.find(["run"]) == ["queued"]


async def test_a_wrong_password_is_refused_at_once(tmp_path: Path) -> None:
    with NatsServer(find(), tmp_path, settings=[USERS]) as server:
        said = await refused(f"nats://worker:wrong@127.0.0.1:{server.port}")
        missing = await refused(server.url)

    assert "correct the URL" in said
    assert "wrong@" not in said
    assert "correct the URL" in missing


async def test_a_user_with_the_rights_that_are_named_can_do_all_and_another_is_told(tmp_path: Path) -> None:
    with NatsServer(find(), tmp_path, settings=[USERS]) as server:
        async with opened(f"nats://worker:right@127.0.0.1:{server.port}") as backend:
            await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
            (taken,) = await backend.transport.receive([LANE], 1, timedelta(seconds=1))
            assert backend.transport.extend([taken.receipt]) == [True]
            await backend.transport.ack([taken])
            await backend.transport.pause("mail")
        said = await refused(f"nats://guest:right@127.0.0.1:{server.port}")

    assert "may not do that" in said


async def test_a_server_without_jetstream_is_named_as_such(tmp_path: Path) -> None:
    with NatsServer(find(), tmp_path, jetstream=False) as server, pytest.raises((Rejected, Unavailable)) as caught:
        async with opened(server.url):
            pass

    assert "-js" in str(caught.value)


async def test_tls_to_a_server_without_it_is_refused_with_a_reason(own_server: NatsServer) -> None:
    with pytest.raises((Rejected, Unavailable)) as caught:
        async with opened(f"tls://127.0.0.1:{own_server.port}"):
            pass

    assert "TLS" in str(caught.value)


async def test_an_older_server_is_refused_with_both_versions() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        about = {"server_id": "x", "version": "2.11.4", "max_payload": 1048576, "headers": True, "jetstream": True}
        writer.write(b"INFO " + json.dumps(about).encode() + b"\r\n")
        with suppress(ConnectionError):
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as old:
        said = await refused(f"nats://127.0.0.1:{old.sockets[0].getsockname()[1]}")

    assert "2.11.4" in said
    assert "2.12" in said


async def test_somebody_elses_stream_under_our_name_is_refused(own_server: NatsServer) -> None:
    theirs = await nats.connect(own_server.url)
    await theirs.jetstream().add_stream(name="motet-motet-messages", subjects=["theirs.>"])
    await theirs.close()

    said = await refused(own_server.url)

    assert "choose another namespace" in said


async def test_a_stream_that_somebody_else_has_on_our_subjects_is_refused(own_server: NatsServer) -> None:
    theirs = await nats.connect(own_server.url)
    await theirs.jetstream().add_stream(name="theirs", subjects=["motet.>"])
    await theirs.close()

    assert "somebody else's stream has our subjects" in await refused(own_server.url)


async def test_a_stream_of_ours_that_somebody_has_changed_is_refused_with_what_was_changed(
    own_server: NatsServer,
) -> None:
    async with opened(own_server.url):
        pass
    theirs = await nats.connect(own_server.url)
    # Not by nats-py's own classes: older ones drop what they do not know of a stream, which is another change.
    found = json.loads((await theirs.request("$JS.API.STREAM.INFO.motet-motet-records")).data)["config"]
    changed = json.dumps({**found, "max_msgs_per_subject": 5}).encode()
    answer = json.loads((await theirs.request("$JS.API.STREAM.UPDATE.motet-motet-records", changed)).data)
    await theirs.close()
    assert "error" not in answer

    said = await refused(own_server.url)

    assert "max_msgs_per_subject=5, and not 1" in said


async def test_a_server_that_takes_little_in_one_message_is_served_within_its_limit(tmp_path: Path) -> None:
    """A value goes in parts; a message cannot, and is refused before anything is sent."""
    with NatsServer(find(), tmp_path, settings=["max_payload: 32768"]) as server:
        async with opened(server.url) as backend:
            value = b"x" * 200_000
            await backend.store.put([Put(Key("run", "v"), value)])
            assert await backend.store.get([Key("run", "v")]) == [value]
            with pytest.raises(TooLarge, match=r"28,672|28672"):
                await backend.transport.publish(
                    [Parcel("small:0:r1", LANE, b""), Parcel("large:0:r1", LANE, b"x" * 32_768)]
                )
            assert await backend.transport.find(["small", "large"]) == [None, None]


async def test_what_waits_in_a_lane_is_found_and_counted_before_any_worker_has_come(own_server: NatsServer) -> None:
    async with opened(own_server.url) as backend:
        parcel = Parcel("keyed:0:r1", LANE, b"")
        await backend.transport.admit([Admission("key", Rule.FIRST, parcel, timedelta(seconds=60))])

        assert await backend.transport.find(["keyed"]) == ["queued"]
        assert [(info.queue, info.ready) for info in await backend.transport.queues()] == [("mail", 1)]


async def test_a_message_whose_consumer_somebody_has_removed_is_found_and_delivered(own_server: NatsServer) -> None:
    async with opened(own_server.url) as backend:
        await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
        theirs = await nats.connect(own_server.url)
        await theirs.jetstream().delete_consumer("motet-motet-messages", "mail~small~1")
        await theirs.close()

        assert await backend.transport.find(["run"]) == ["queued"]
        assert [each.id for each in await backend.transport.receive([LANE], 1, timedelta(seconds=2))] == ["run:0:r1"]


async def test_a_message_that_is_too_large_is_refused_and_the_rest_goes_on(own_server: NatsServer) -> None:
    async with opened(own_server.url) as backend:
        with pytest.raises(TooLarge):
            await backend.transport.publish([Parcel("run:0:r1", LANE, b"x" * 1024 * 1024)])
        await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])

        assert await backend.transport.find(["run"]) == ["queued"]


async def test_names_that_are_no_subjects_are_kept_apart(own_server: NatsServer) -> None:
    names = ["a.b", "a b", "a*", ">", "", "\u2603", "a=2E", "A", "a"]
    async with opened(own_server.url) as backend:
        await backend.store.put([Put(Key(run, "v"), run.encode()) for run in names])
        await backend.transport.publish([Parcel(f"{run}:{run}", LANE, run.encode()) for run in names])

        assert await backend.store.get([Key(run, "v") for run in names]) == [run.encode() for run in names]
        taken = await backend.transport.receive([LANE], 100, timedelta())
        assert [(each.id, each.body) for each in taken] == [(f"{run}:{run}", run.encode()) for run in names]


async def test_a_full_server_refuses_and_nothing_is_lost(tmp_path: Path) -> None:
    limit = f'jetstream {{ store_dir: "{tmp_path / "full"}", max_file: 2M }}'
    with NatsServer(find(), tmp_path, jetstream=False, settings=[limit]) as server:
        async with opened(server.url) as backend:
            await backend.transport.publish([Parcel("before:0:r1", LANE, b"")])
            with pytest.raises(Unavailable, match="JetStream"):
                await backend.store.put([Put(Key("run", f"v.{number}"), b"x" * 500_000) for number in range(10)])

            (taken,) = await backend.transport.receive([LANE], 1, timedelta(seconds=1))
            assert taken.id == "before:0:r1"
