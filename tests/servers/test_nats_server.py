"""What the tests of NATS stand on: servers that start, die and leave nothing."""

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
from nats_server import NatsServer, NoServer, RunningServer, find, server_for

HERE = Path(__file__).parent
OWNER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from nats_server import NatsServer
server = NatsServer(sys.argv[2], sys.argv[3])
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    if "nats" not in missing.chosen():
        pytest.skip("nats is not among the backends")
    try:
        made = NatsServer(find(), tmp_path)
    except NoServer as none:
        missing.skip("nats", none)
    with made:
        yield made


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0 and probe.recv(5) == b"INFO "


def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()[:1] in ("", "Z")


def test_a_server_says_which_it_is_and_has_jetstream(server: NatsServer) -> None:
    assert server.about["jetstream"]
    assert tuple(map(int, server.version.split(".")[:2])) >= (2, 12)


def test_a_restarted_server_has_its_port_and_its_folder(server: NatsServer) -> None:
    port, folder, pid = server.port, server.folder, server.pid

    server.restart()

    assert (server.port, server.folder) == (port, folder)
    assert server.pid != pid
    assert answers(port)


def test_a_paused_server_answers_nobody_until_it_goes_on(server: NatsServer) -> None:
    server.pause()
    with socket.create_connection(("127.0.0.1", server.port), 1) as made:
        made.settimeout(0.3)
        with pytest.raises(TimeoutError):
            made.recv(5)

    server.go_on()

    assert answers(server.port)


def test_a_stopped_server_leaves_nothing(server: NatsServer) -> None:
    pid, folder = server.pid, server.folder

    server.stop()

    assert gone(pid)
    assert not folder.exists()


def test_a_server_does_not_outlive_whoever_started_it(server: NatsServer, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(HERE), server.program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        os.kill(owner.pid, signal.SIGKILL)
    until(lambda: gone(pid))
    until(lambda: [each.name for each in tmp_path.glob("nats-*")] == [server.folder.name])


def test_a_server_that_runs_elsewhere_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTET_TEST_NATS_URL", "nats://elsewhere")

    with server_for() as found:
        assert type(found) is RunningServer
        assert found.url == "nats://elsewhere"
