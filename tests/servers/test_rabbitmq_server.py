"""What the tests of RabbitMQ stand on: servers that start, die and leave nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import missing
import pytest
from rabbitmq_server import HELLO, NoServer, RabbitServer, RunningServer, ServerFailed, find, server_for

HERE = Path(__file__).parent
OWNER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from rabbitmq_server import RabbitServer
server = RabbitServer(sys.argv[2], sys.argv[3])
server.start()
print(server.pid, flush=True)
time.sleep(120)
"""

pytestmark = pytest.mark.timeout(120)  # it starts in 5 seconds, or in 40 on a machine that does other work


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RabbitServer]:
    if "rabbitmq" not in missing.chosen():
        pytest.skip("rabbitmq is not among the backends")
    try:
        made = RabbitServer(find(), tmp_path)
    except NoServer as none:
        missing.skip("rabbitmq", none)
    with made:
        yield made


def greets(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)):
            return False
        probe.sendall(HELLO)
        return probe.recv(1) == b"\x01"


def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def members(group: int) -> list[str]:
    """Name the programs of a group that live."""
    shown = subprocess.run(["ps", "-A", "-o", "pgid=,stat=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in shown.splitlines()]
    return sorted(row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z"))


def test_a_server_is_started_killed_paused_and_gone(server: RabbitServer) -> None:
    port, folder, pid = server.port, server.folder, server.pid
    assert tuple(map(int, server.version.split(".")[:2])) >= (3, 10)
    assert members(pid) == ["beam.smp", "epmd"]

    server.restart()

    assert (server.port, server.folder) == (port, folder)
    assert server.pid != pid
    assert members(pid) == []

    server.pause()
    with pytest.raises(TimeoutError):
        greets(port)
    server.go_on()
    assert greets(port)

    pid = server.pid
    server.stop()
    until(lambda: members(pid) == [])
    assert not folder.exists()


def test_users_and_rights_are_set_by_rabbitmqctl(server: RabbitServer) -> None:
    url = server.user("worker", "right", rights=("motet.*", ".*", ".*"))

    assert url == f"amqp://worker:right@127.0.0.1:{server.port}"
    assert "motet.*" in server.control("list_permissions")
    with pytest.raises(ServerFailed, match="no-such-thing"):
        server.control("no-such-thing")


def test_a_server_does_not_outlive_whoever_started_it(server: RabbitServer, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(HERE), server.program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        os.kill(owner.pid, signal.SIGKILL)
    until(lambda: members(pid) == [])
    until(lambda: [each.name for each in tmp_path.glob("rabbitmq-*")] == [server.folder.name])


def test_a_server_of_another_line_than_expected_is_refused(server: RabbitServer, tmp_path: Path) -> None:
    other = RabbitServer(server.program, tmp_path, line="2.8")

    with pytest.raises(ServerFailed, match=r"should be 2\.8"):
        other.start()


def test_a_server_that_runs_elsewhere_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTET_TEST_RABBITMQ_URL", "amqp://elsewhere")

    assert type(server_for()) is RunningServer
    assert server_for().url == "amqp://elsewhere"


def test_a_machine_without_one_is_told_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rabbitmq_server.DEBIAN", "/nowhere")

    with pytest.raises(NoServer, match="MOTET_TEST_RABBITMQ_URL"):
        find({"PATH": "/nowhere"})
