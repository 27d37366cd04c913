"""What the tests of Redis stand on: servers that start, die and leave nothing."""

import json
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
import redis
from redis_server import (
    Kind,
    NoServer,
    RedisServer,
    RunningServer,
    ServerFailed,
    find,
    kinds,
    program,
    server_for,
    version_line,
)

HERE = Path(__file__).parent
OWNER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from redis_server import RedisServer
server = RedisServer(sys.argv[2], sys.argv[3])
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def binary() -> str:
    if "redis" not in missing.chosen():
        pytest.skip("redis is not among the backends")
    try:
        return program()
    except NoServer as none:
        missing.skip("redis", none)


@pytest.fixture
def server(binary: str, tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(binary, tmp_path) as server:
        yield server


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried yet does not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()[:1] not in ("", "Z")


def eventually(claim: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_server_says_what_its_program_is(server: RedisServer, binary: str) -> None:
    assert server.version.startswith(f"{version_line(binary)}.")
    assert 20000 <= server.port < 32000
    assert server.url == f"redis://127.0.0.1:{server.port}/0"


def test_restart_keeps_what_was_acknowledged_and_the_port(server: RedisServer) -> None:
    url, pid = server.url, server.pid
    server.command("SET", "key", "value")

    server.restart()

    assert server.command("GET", "key") == b"value"
    assert (server.url, server.pid == pid) == (url, False)


def test_kill_leaves_the_folder_and_no_process(server: RedisServer) -> None:
    pid = server.pid

    server.kill()

    assert not alive(pid)
    assert server.pid == 0
    assert server.log.exists()
    with pytest.raises(redis.ConnectionError):
        server.command("PING")


def test_stop_leaves_nothing(server: RedisServer, tmp_path: Path) -> None:
    pid = server.pid

    server.stop()
    server.stop()

    assert not alive(pid)
    assert list(tmp_path.iterdir()) == []


def test_paused_server_answers_when_it_goes_on(server: RedisServer) -> None:
    server.pause()
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.1) as raw:
        raw.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            raw.recv(16)

    server.go_on()

    assert server.command("PING")


@pytest.mark.parametrize("options", [("--nonsense", "yes")], ids=["nonsense"])
def test_program_that_cannot_start_is_reported_with_its_log(
    binary: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(ServerFailed, match=r"(?s)ended with 1; its log ends so:.*nonsense"):
        RedisServer(binary, tmp_path, options=options).start()

    assert list(tmp_path.iterdir()) == []


def test_program_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="ended with 127"):
        RedisServer("/no/such/server", tmp_path).start()

    assert list(tmp_path.iterdir()) == []


def test_server_of_another_line_is_refused(binary: str, tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match=r"and should be redis 1\.0"):
        RedisServer(binary, tmp_path, line="redis 1.0").start()

    assert list(tmp_path.iterdir()) == []


def test_server_whose_owner_is_killed_goes_with_its_folder(binary: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(HERE), binary, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert alive(pid)

        owner.send_signal(signal.SIGKILL)

    eventually(lambda: not alive(pid))
    eventually(lambda: list(tmp_path.iterdir()) == [])


def test_cluster_of_one_serves_all_slots(binary: str, tmp_path: Path) -> None:
    with RedisServer(binary, tmp_path, cluster=True) as server:
        assert server.healthy()
        assert server.url == f"redis+cluster://127.0.0.1:{server.port}"
        assert server.command("SET", "key", "value")


def test_server_that_runs_is_used_and_left_alone(server: RedisServer) -> None:
    kind = find({"MOTET_TEST_REDIS_URL": server.url})

    with server_for(kind) as running:
        assert type(running) is RunningServer
        assert running.version == server.version

    assert alive(server.pid)


def test_without_a_server_the_remedies_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(NoServer, match="MOTET_TEST_REDIS_URL=redis://"):
        find({"PATH": str(tmp_path)})


def test_program_on_path_is_found_when_there_is_no_other(
    binary: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "redis-server").symlink_to(binary)

    found = find({"PATH": str(tmp_path)})

    assert found == Kind("redis-server", program=str(tmp_path / "redis-server"), line=version_line(binary))


def test_matrix_is_read_from_the_environment() -> None:
    listed = [{"name": "redis-8", "program": "/p", "line": "redis 8", "cluster": True}]

    assert kinds({"MOTET_TEST_REDIS_SERVERS": json.dumps(listed)}) == [Kind("redis-8", "/p", "redis 8", True)]
    assert kinds({}) == [None]


def test_run_without_a_broker_fails_in_the_end_and_tests_the_others(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import missing\npytest_configure = missing.watch\n")
    (tmp_path / "test_it.py").write_text(
        "import missing\ndef test_a():\n    missing.skip('redis', 'get one')\ndef test_b():\n    pass\n"
    )
    environment = {**os.environ, "MOTET_TEST_BACKENDS": "redis,sqlite", "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "1 passed, 1 skipped" in done.stdout
    assert "FAILED: redis was not tested" in done.stdout
    assert "get one\nOr test the others only: python3 noxfile.py -s tests -- --backends=sqlite" in done.stdout
