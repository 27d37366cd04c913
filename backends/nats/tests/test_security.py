"""Who is let in, and who is trusted: TLS, keys, credentials, and a user who may do no more than it needs."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import nats_accounts as accounts
import nkeys
import pytest
import trustme
from nats_server import NatsServer, find

from motet import Motet, group
from motet.errors import Rejected, Unavailable
from motet.message import DeadLetter, Parcel
from motet.options import Lane
from motet.outcome import ErrorInfo, Kind
from motet.ports import Grant, Lock, Schedule, Settings
from motet_nats import open as open_nats

LANE = Lane("mail", "small", 1)
SOON = Settings(timeout=timedelta(seconds=2))
README = Path(__file__).parents[1] / "README.md"


async def works(url: str) -> None:
    """Send something through, and see it come out."""
    async with open_nats(url, SOON) as backend:
        await backend.transport.publish([Parcel("run:0:r1", LANE, b"")])
        (taken,) = await backend.transport.receive([LANE], 1, timedelta(seconds=1))
        assert backend.transport.extend([taken.receipt]) == [True]  # from a connection of its own
        await backend.transport.ack([taken])


class Certificates:
    """A certificate authority of ours, and what it has signed, in files."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)

    def pair(self, name: str, *, of: str = "127.0.0.1") -> tuple[Path, Path]:
        """Issue a certificate, and return its file and that of its key."""
        issued = self.authority.issue_cert(of)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(cert, append=number > 0)
        issued.private_key_pem.write_to_path(key)
        return cert, key


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def with_tls(certificates: Certificates, *, of: str = "127.0.0.1", verify: bool = False) -> list[str]:
    cert, key = certificates.pair("server", of=of)
    more = f'ca_file: "{certificates.ca}", verify: true' if verify else ""
    return [f'tls {{ cert_file: "{cert}", key_file: "{key}", {more} }}']


async def test_a_server_with_tls_is_verified_and_used(tmp_path: Path, certificates: Certificates) -> None:
    with NatsServer(find(), tmp_path, settings=with_tls(certificates)) as server:
        await works(f"tls://127.0.0.1:{server.port}?ca={quote(str(certificates.ca))}")


async def test_a_certificate_that_nobody_trusts_is_refused_with_advice(
    tmp_path: Path, certificates: Certificates
) -> None:
    server = NatsServer(find(), tmp_path, settings=with_tls(certificates))
    with server, pytest.raises((Rejected, Unavailable), match=r"\?ca="):
        await works(f"tls://127.0.0.1:{server.port}")


async def test_a_certificate_of_another_host_is_refused(tmp_path: Path, certificates: Certificates) -> None:
    server = NatsServer(find(), tmp_path, settings=with_tls(certificates, of="elsewhere.example"))
    with server, pytest.raises((Rejected, Unavailable), match="TLS"):
        await works(f"tls://127.0.0.1:{server.port}?ca={quote(str(certificates.ca))}")


async def test_a_server_that_wants_to_know_who_we_are_is_told(tmp_path: Path, certificates: Certificates) -> None:
    cert, key = certificates.pair("client")
    trusted = f"ca={quote(str(certificates.ca))}"
    with NatsServer(find(), tmp_path, settings=with_tls(certificates, verify=True)) as server:
        await works(f"tls://127.0.0.1:{server.port}?{trusted}&cert={quote(str(cert))}&key={quote(str(key))}")
        with pytest.raises((Rejected, Unavailable)):
            await works(f"tls://127.0.0.1:{server.port}?{trusted}")


async def test_a_key_lets_in_and_another_does_not(tmp_path: Path) -> None:
    ours, other = (accounts.new_key(nkeys.PREFIX_BYTE_USER) for _ in range(2))
    for name, key in (("ours", ours), ("other", other)):
        (tmp_path / name).write_bytes(key.seed)
    users = f"authorization {{ users: [ {{ nkey: {accounts.name_of(ours)} }} ] }}"
    with NatsServer(find(), tmp_path, settings=[users]) as server:
        await works(f"{server.url}?nkey={quote(str(tmp_path / 'ours'))}")
        with pytest.raises(Rejected, match="correct the URL"):
            await works(f"{server.url}?nkey={quote(str(tmp_path / 'other'))}")


async def test_a_file_of_credentials_lets_in(tmp_path: Path) -> None:
    file, settings = accounts.credentials(tmp_path)
    with NatsServer(find(), tmp_path, settings=settings) as server:
        await works(f"{server.url}?creds={quote(file)}")
        with pytest.raises(Rejected, match="correct the URL"):
            await works(server.url)


async def test_a_user_with_the_rights_on_the_page_can_do_everything(tmp_path: Path) -> None:
    found = re.search(r"```conf\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    user = f'authorization {{ users: [ {{ user: "worker", password: "right", {found[1]} }} ] }}'
    with NatsServer(find(), tmp_path, settings=[user]) as server:
        url = f"nats://worker:right@127.0.0.1:{server.port}"
        await works(url)
        await use_every_port(url)
        await run_a_workflow(url)


async def run_a_workflow(url: str) -> None:
    app = Motet(url)

    @app.task(name="tests:half")
    async def half(x: int) -> int:
        return x // 2

    @app.task(name="tests:total")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    async with app, app.worker():
        run = await (group(half.s(2 * n) for n in range(10)) | total.s()).submit(delay=0.1)
        assert await run.result(timeout=10) == 45


async def use_every_port(url: str) -> None:
    now = SOON.clock.now()
    async with open_nats(url, SOON) as backend:
        await backend.transport.pause("other")
        assert [each.queue for each in await backend.transport.queues()] == ["other"]
        await backend.timers.park([Parcel("late:0", LANE, b"", now + timedelta(seconds=60))])
        assert await backend.timers.cancel(["late:0"]) == [True]
        await backend.schedules.save(Schedule("s", now))
        assert await backend.schedules.fire("s", now, None, [Parcel("tick:0", LANE, b"")])
        assert await backend.transport.move("mail", "other", 10) == 1
        await backend.deadletters.bury([DeadLetter("x", LANE, "task", b"", ErrorInfo(Kind.EXCEPTION), now)])
        assert await backend.deadletters.replay([("x", Parcel("again:0", LANE, b""))]) == [True]
        grants = await backend.locks.acquire([Lock("mutex", "mutex")], "owner", timedelta(seconds=1))
        assert isinstance(grants, Grant)
        cursor, _ = await backend.events.read(None, 1, timedelta())
        await backend.events.emit([b"event"])
        assert (await backend.events.read(cursor, 1, timedelta(seconds=1)))[1] == [b"event"]
        async with backend.signals.subscribe("run"):
            pass
        assert await backend.store.sweep("run", 10)
