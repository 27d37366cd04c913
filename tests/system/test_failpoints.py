"""A process is killed with SIGKILL at every named point of settle and submit: nothing is lost, no effect is doubled.

`MOTET_KILLS` says how often per point; 2 in `ci`, 20 in the nightly run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

pytest.importorskip("motet_sqlite")

from motet import Motet
from motet_sqlite import FAILPOINTS

HERE = Path(__file__).parent
KILLS = int(os.environ.get("MOTET_KILLS", "2"))
SETTLES = tuple(point for point in FAILPOINTS if "submit" not in point)
SUBMITS = ("before_start", "before_submit", "after_submit", "between_pages")
DEADLINE = 60


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Fleet:
    """Processes on one file, and what they have noted."""

    def __init__(self, folder: Path, *, width: int = 6) -> None:
        self.url = f"sqlite:///{folder}/kill.db"
        self.history = folder / "history"
        self.environment = {
            **os.environ,
            "KILL_URL": self.url,
            "KILL_HISTORY": str(self.history),
            "KILL_WIDTH": str(width),
        }
        self.environment.pop("MOTET_FAILPOINTS", None)
        self.expected = sum(range(width)) + 1200

    def start(self, *words: str, failpoint: str = "") -> subprocess.Popen[bytes]:
        environment = {**self.environment, "MOTET_FAILPOINTS": failpoint} if failpoint else self.environment
        return subprocess.Popen([sys.executable, str(HERE / "kill_app.py"), *words], env=environment)

    async def finish(self, run: str) -> None:
        """Let a clean worker end the run, and look at what came out."""
        worker = self.start("work")
        try:
            async with Motet(self.url, lease=0.5) as app:
                assert await app.handle(run).result(DEADLINE) == self.expected
                with anyio.fail_after(DEADLINE):
                    while any(info.ready or info.held for info in await app.backend.transport.queues()):
                        await anyio.sleep(0.02)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(10)

    def effects(self) -> Counter[str]:
        """Executions by node: an effect keyed by node is one, however often the task ran."""
        return Counter(line.rpartition(" ")[0].rpartition(" ")[0] for line in self.history.read_text().splitlines())

    def prove(self, kills: int) -> None:
        """Every node has run; no node more often than kills and its own retries explain; one node of each kind.

        A worker with 4 slots that dies takes 8 attempts with it: 4 that run, and 4 that are being settled.
        """
        effects = self.effects()
        kinds = Counter(name.split()[0] for name in effects)
        assert kinds["total"] == 2
        assert kinds["called"] == 1
        assert kinds["thread"] == 2
        retries = 1
        assert sum(effects.values()) - len(effects) <= retries + kills * 8


async def wait_for(process: subprocess.Popen[bytes]) -> int:
    with anyio.fail_after(DEADLINE):
        while process.poll() is None:
            await anyio.sleep(0.01)
    return process.returncode


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", SETTLES)
async def test_a_worker_killed_at_any_point_of_settle_loses_and_doubles_nothing(point: str, tmp_path: Path) -> None:
    for number in range(1, KILLS + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        fleet = Fleet(folder)
        assert await wait_for(fleet.start("submit", "run")) == 0
        victim = fleet.start("work", failpoint=f"{point}=kill@{1 + (number - 1) % 4}")
        assert await wait_for(victim) == -signal.SIGKILL
        await fleet.finish("run")
        fleet.prove(kills=1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("width", [6, 9000])
@pytest.mark.parametrize("point", [*SUBMITS, *(point for point in FAILPOINTS if "receive" not in point)])
async def test_a_submit_killed_anywhere_leaves_a_whole_run_or_records_that_expire(
    point: str, width: int, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, width=width)
    client = fleet.start("submit", "run", failpoint=f"{point}=kill")
    died = await wait_for(client) == -signal.SIGKILL
    async with Motet(fleet.url, lease=0.5) as app:
        begun = await app.backend.store.names("run", "r")
        if not begun:
            # Nothing waits for ever: what was written is swept by the janitor that was parked first.
            parked = sum(info.parked for info in await app.backend.transport.queues())
            assert parked == 1 or await app.backend.store.names("run", "") == []
    if not begun:
        assert await wait_for(fleet.start("submit", "run")) == 0
    if width == 6:
        await fleet.finish("run")
        fleet.prove(kills=int(died))
