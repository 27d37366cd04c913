import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

APP = """
import os
import time

import anyio

from motet import Motet

app = Motet("sqlite:///motet.db", lease=2)


@app.task
async def add(x: int, y: int) -> int:
    return x + y


@app.task
async def rest(seconds: float) -> str:
    open("resting", "w").close()
    await anyio.sleep(seconds)
    return "rested"


@app.task
async def block(seconds: float) -> None:
    open("resting", "w").close()
    time.sleep(seconds)


@app.task
def linger(seconds: float) -> None:
    open("resting", "w").close()
    time.sleep(seconds)
"""


def eventually(claim: Callable[[], object], within: float, what: str) -> None:
    """Wait for a claim to become true, no longer than needed."""
    deadline = time.monotonic() + within
    while not claim():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has buried yet does not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()[:1] not in ("", "Z")


class Supervised:
    """A `motet worker` as a user has it, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        assert process.stderr is not None
        self.reader = threading.Thread(target=self.lines.extend, args=(process.stderr,), daemon=True)
        self.reader.start()

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def count(self, words: str) -> int:
        return self.text.count(words)

    def said(self, words: str, times: int = 1, within: float = 10) -> None:
        eventually(lambda: self.count(words) >= times, within, f"{words!r} x{times} is not in:\n{self.text}")

    @property
    def children(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"started pid=(\d+)", self.text)]

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self, within: float = 10) -> int:
        code = self.process.wait(within)
        self.reader.join(2)
        return code


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an app, as a user would have it."""
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MOTET_")}


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Supervised]]:
    """Start `motet worker shop:app` with some arguments; whatever is left of it is killed in the end."""
    started: list[Supervised] = []

    def run(*arguments: str, target: str = "shop:app", **variables: str) -> Supervised:
        command = [sys.executable, "-m", "motet", "worker", target, *arguments]
        process = subprocess.Popen(
            command, cwd=place, env={**environment(), **variables}, stderr=subprocess.PIPE, text=True
        )
        started.append(Supervised(process))
        return started[-1]

    yield run
    for each in started:
        if each.process.poll() is None:
            each.send(signal.SIGTERM)
            each.send(signal.SIGTERM)
            each.ends()
        each.ends()
        assert each.process.stderr is not None
        each.process.stderr.close()
        for pid in each.children:
            assert not alive(pid)


@pytest.fixture
def motet(place: Path) -> Callable[..., str]:
    """Run another verb of the command line, and return what it prints."""

    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "motet", "-A", "shop:app", *arguments]
        done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout.strip()

    return run


class Terminal:
    """A program on a terminal of its own, in whose foreground it is."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(command[0], command, environment())
        self.output = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        while True:
            try:
                self.output += os.read(self.screen, 65536)
            except OSError:
                return

    @property
    def text(self) -> str:
        return self.output.decode()

    def said(self, words: str, times: int = 1, within: float = 10) -> None:
        eventually(lambda: self.text.count(words) >= times, within, f"{words!r} x{times} is not in:\n{self.text}")

    def types(self, keys: bytes) -> None:
        os.write(self.screen, keys)

    def ends(self, within: float = 10) -> int:
        codes: list[int] = []

        def ended() -> bool:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            codes.extend([os.waitstatus_to_exitcode(status)] if pid else [])
            return bool(codes)

        eventually(ended, within, f"it has not ended:\n{self.text}")
        self.reader.join(2)
        return codes[0]


@pytest.fixture
def terminal(place: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def run(*arguments: str) -> Terminal:
        opened.append(Terminal([sys.executable, "-m", "motet", *arguments], place))
        return opened[-1]

    yield run
    for each in opened:
        try:
            os.kill(each.pid, signal.SIGKILL)
            os.waitpid(each.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(each.screen)
