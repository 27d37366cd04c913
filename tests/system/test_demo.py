import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Terminal, environment, eventually

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the supervisor is for POSIX")

TEXTS = ["The rain in Spain", "stays mainly on the plain", "the plain, the rain, THE END: naïve café", "x 1 2 3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(16):
        file = tmp_path / "texts" / f"part{number % 3}" / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TEXTS[number % len(TEXTS)] * (number + 1))
    (tmp_path / "texts/picture.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "tmp").mkdir()
    return tmp_path / "texts"


def demo(folder: Path, *arguments: str, code: int = 0) -> str:
    variables = {
        **environment(),
        "TMPDIR": str(folder.parent / "tmp"),
        "MOTET_URL": "redis://not-asked",
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "motet", "demo", str(folder), *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=18)
    assert done.returncode == code, done.stderr
    assert list((folder.parent / "tmp").iterdir()) == []
    assert leftovers(folder.parent) == []
    return done.stdout


def leftovers(place: Path) -> list[str]:
    """Processes that were started with this place in their environment."""
    found: list[str] = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(place / "tmp").encode() in environ.read_bytes():
                found.append((environ.parent / "cmdline").read_text(encoding="utf-8"))
        except OSError:
            continue
    return found


def counted(folder: Path) -> list[list[object]]:
    words: Counter[str] = Counter()
    for file in folder.rglob("*.txt"):
        words.update(re.findall(r"[^\W\d_]{3,}", file.read_text(encoding="utf-8").lower()))
    return [list(each) for each in sorted(words.items(), key=lambda item: (-item[1], item[0]))[:10]]


def test_demo_gives_the_plain_answer_though_a_worker_is_killed(folder: Path) -> None:
    facts = json.loads(demo(folder, "--json"))

    assert facts["words"] == counted(folder)
    assert facts["same"] is True
    assert facts["killed"]
    assert facts["redelivered"] > 0
    assert facts["executions"] >= facts["nodes"] == facts["calls"] == 18


def test_demo_without_a_kill_executes_each_call_once(folder: Path) -> None:
    facts = json.loads(demo(folder, "--json", "--no-kill", "--workers", "2"))

    assert facts["words"] == counted(folder)
    assert (facts["killed"], facts["redelivered"]) == (None, 0)
    assert facts["executions"] == facts["calls"] == 18


def test_demo_says_what_was_killed_and_proven(folder: Path) -> None:
    text = demo(folder, "-w", "2", "--db", str(folder.parent / "kept.db"))

    assert re.search(r"killed worker \d+ with SIGKILL", text)
    assert re.search(r"redelivered \d+ messages? that it held", text)
    assert "the result equals that of a plain loop in one process" in text
    assert "18 of 18 calls done" in text
    assert "\x1b[" not in text
    assert (folder.parent / "kept.db").exists()


def test_demo_of_an_empty_folder_says_what_to_do(folder: Path) -> None:
    empty = folder / "empty"
    empty.mkdir()
    (folder / "tmp").mkdir()

    demo(empty, code=2)


def test_ctrl_c_in_the_demo_leaves_nothing_behind(folder: Path, terminal: Callable[..., Terminal]) -> None:
    os.environ["TMPDIR"] = str(folder.parent / "tmp")
    try:
        running = terminal("demo")
    finally:
        del os.environ["TMPDIR"]
    running.said("worker", 3)

    running.types(b"\x03")

    assert running.ends() == 130
    eventually(lambda: leftovers(folder.parent) == [], 2, "a process is left")
    assert list((folder.parent / "tmp").iterdir()) == []
    assert "Traceback" not in running.text


def test_killed_demo_leaves_no_process_behind(folder: Path) -> None:
    variables = {**environment(), "TMPDIR": str(folder.parent / "tmp")}
    command = [sys.executable, "-m", "motet", "demo"]
    running = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)
    eventually(lambda: len(leftovers(folder.parent)) >= 3, 10, "the workers have not started")

    running.send_signal(signal.SIGKILL)
    running.wait()

    if sys.platform.startswith("linux"):
        eventually(lambda: leftovers(folder.parent) == [], 2, "a process is left")
