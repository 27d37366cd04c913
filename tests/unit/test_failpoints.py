"""Places where a test may end or freeze the process: armed by a variable, and free without it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from motet import failpoints

SOURCE = Path(failpoints.__file__).parent
PASSES = "from motet.failpoints import hit\nfor each in range(5):\n    print(each, flush=True)\n    hit('after_record')"
OPENS = """
import anyio
from motet import Motet
async def main():
    async with Motet():
        print("open")
anyio.run(main)
"""


def armed(points: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MOTET_FAILPOINTS": points}


def run(program: str, points: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=armed(points), capture_output=True, text=True, check=False, timeout=15)


def test_kill_ends_the_process_at_the_pass_that_was_named() -> None:
    done = run(PASSES, "before_ack=kill,after_record=kill@3")

    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]


def test_stop_freezes_the_process_until_it_is_told_to_go_on() -> None:
    command = [sys.executable, "-c", PASSES]
    with subprocess.Popen(command, env=armed("after_record=stop@2"), stdout=subprocess.PIPE, text=True) as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=15)

    assert process.returncode == 0
    assert output.split() == ["0", "1", "2", "3", "4"]


def test_without_the_variable_a_place_does_nothing() -> None:
    failpoints.hit("anything at all")

    assert not failpoints.unknown()


def test_a_place_that_nobody_knows_is_refused_with_those_there_are() -> None:
    done = run(OPENS, "after_recrod=kill")

    assert done.returncode == 1
    assert "UsageError: MOTET_FAILPOINTS names no known place with after_recrod; there are after_ack, " in done.stderr


def test_a_place_of_an_adapter_is_known_where_it_is_in_use(tmp_path: Path) -> None:
    pytest.importorskip("motet_sqlite")
    on_sqlite = OPENS.replace("Motet()", f"Motet('sqlite:///{tmp_path}/x.db')")

    assert "no known place with after_commit" in run(OPENS, "after_commit=kill").stderr
    assert run(on_sqlite, "after_receive_commit=kill").stdout == "open\n"


@pytest.mark.parametrize("points", ["after_record", "after_record=explode", "after_record=kill@soon", "a=kill@0"])
def test_what_is_no_action_is_refused(points: str) -> None:
    assert "is not name=kill, name=stop or name=kill@n" in run(OPENS, points).stderr


@pytest.mark.parametrize("name", sorted({*failpoints.WORKER, *failpoints.CLIENT, *failpoints.CONTROL}))
def test_every_place_that_is_named_is_passed_somewhere(name: str) -> None:
    assert [path for path in SOURCE.rglob("*.py") if f'hit("{name}")' in path.read_text(encoding="utf-8")]


def test_every_place_of_the_settler_is_passed_there() -> None:
    text = (SOURCE / "engine/ordered.py").read_text(encoding="utf-8")

    assert [name for name in failpoints.SETTLE if f'"{name}"' not in text] == []


def test_every_place_is_on_the_page_of_settings() -> None:
    page = (Path(__file__).parents[2] / "docs/settings.md").read_text(encoding="utf-8")

    assert [name for name in failpoints.known() if f"| `{name}` |" not in page] == []
