"""A mutex on RabbitMQ while its holders and the broker are killed; then an idle worker, and how soon work flows again.

python tests/system/rabbitmq_locks.py               # 200 acquisitions, 8 holders killed, the broker once
python tests/system/rabbitmq_locks.py --line 4.0    # on that server of the matrix

Four processes take the same mutex in turn, each under a new name. A holder notes when it was granted (after the answer)
and when it was done (before it releases): two spans that overlap within a lease are two holders at once. A holder that
is killed while it holds has its lease run out. Fences must grow in the order of the grants.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "faults"), str(TESTS / "servers")]

from chaos import folder
from rabbitmq_server import RabbitServer, of_line

from motet import Motet, Unavailable
from motet.ports import Grant, Lock

LEASE = timedelta(seconds=2)
HOLDERS, KILLS, ENOUGH = 4, 8, 200
IDLE = 10.0
"""Seconds for which an idle worker is looked at."""
TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Span:
    """A grant: from its answer until its holder was done, or died, or was too late to be sure of it."""

    fence: int
    asked: float
    began: float
    ended: float | None


# A holder.


async def hold(url: str, journal: Path) -> None:
    """Take the mutex again and again, and note it."""
    async with AsyncExitStack() as stack:
        app = Motet(url)
        while True:
            try:
                await stack.enter_async_context(app)
                break
            except Unavailable:
                await anyio.sleep(0.1)
        with journal.open("a", buffering=1) as notes:
            for number in itertools.count():
                await take(app, f"{os.getpid()}.{number}", notes.write)


async def take(app: Motet, owner: str, note: object) -> None:
    """Take it once, hold it for a moment, release it."""
    assert callable(note)
    asked = time.monotonic()
    try:
        answer = await app.backend.locks.acquire([Lock("the mutex", "mutex")], owner, LEASE)
    except Unavailable:
        await anyio.sleep(0.1)
        return
    # The lease runs from the grant, which may be as early as the question.
    if isinstance(answer, Grant) and time.monotonic() < asked + LEASE.total_seconds() / 2:
        note(json.dumps(["began", answer.fence, time.monotonic(), asked]) + "\n")
        await anyio.sleep(random.uniform(0.005, 0.03))
        if time.monotonic() < asked + LEASE.total_seconds():
            note(json.dumps(["ended", answer.fence, time.monotonic(), asked]) + "\n")
    else:
        await anyio.sleep(0.01)
        if not isinstance(answer, Grant):
            return
    while True:
        try:
            await app.backend.locks.release(owner)
        except Unavailable:
            await anyio.sleep(0.1)
        else:
            return


# The judge.


def spans(journals: Sequence[Path]) -> list[Span]:
    """Read all grants, in the order in which they were noted."""
    found: list[Span] = []
    for journal in journals:
        lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines() if line.endswith("]")]
        ends = {fence: at for what, fence, at, _ in lines if what == "ended"}
        found += [Span(fence, asked, at, ends.get(fence)) for what, fence, at, asked in lines if what == "began"]
    return sorted(found, key=lambda span: span.began)


def wrong(found: Sequence[Span]) -> list[str]:
    """Say where fences did not grow, or two held at once."""
    pairs = list(itertools.pairwise(found))
    said = [f"fence {after.fence} after {before.fence}" for before, after in pairs if after.fence <= before.fence]
    for before, after in pairs:
        ended = before.ended if before.ended is not None else before.asked + LEASE.total_seconds()
        if after.began < ended:
            said.append(f"{after.fence} began {ended - after.began:.3f} s before {before.fence} had ended")
    return said


# The course of it.


async def mutex(broker: RabbitServer, path: Path) -> list[str]:
    """Kill holders while they hold, and the broker once; return what was wrong."""
    holders = [start(broker.url, path / f"{number}.jsonl") for number in range(HOLDERS)]
    journals = [path / f"{number}.jsonl" for number in range(HOLDERS)]
    kills = killed = 0
    try:
        while len(spans(made(journals))) < ENOUGH or kills < KILLS:
            await anyio.sleep(1.0)
            if kills < KILLS:
                slot = kills % HOLDERS
                while not holding(journals[slot]):
                    await anyio.sleep(0.001)
                holders[slot].send_signal(signal.SIGKILL)
                holders[slot].wait()
                holders[slot] = start(broker.url, journals[slot])
                kills += 1
            if kills == KILLS // 2 and not killed:
                await anyio.to_thread.run_sync(broker.restart)
                killed = 1
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()
    found = spans(journals)
    said = wrong(found)
    left = sum(span.ended is None for span in found)
    print(f"{len(found)} acquisitions, {kills} holders killed ({left} grants not ended), {killed} broker killed")
    return said


def start(url: str, journal: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--hold", url, str(journal)])


def made(journals: Sequence[Path]) -> list[Path]:
    return [journal for journal in journals if journal.exists()]


def holding(journal: Path) -> bool:
    """Whether the last that was noted is a grant."""
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    return bool(lines) and lines[-1].startswith('["began"')


async def idle(broker: RabbitServer) -> float:
    """The share of a CPU that a worker takes which has nothing to do."""
    command = [sys.executable, "-m", "motet", "-A", "rabbitmq_locks:app", "worker"]
    paths = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "MOTET_URL": broker.url, "PYTHONPATH": paths}
    async with await anyio.open_process(command, env=environment, stdout=None, stderr=None) as worker:
        await anyio.sleep(15)  # it has started, and taken the shards over
        before = spent(worker.pid)
        await anyio.sleep(IDLE)
        share = (spent(worker.pid) - before) / IDLE
        worker.terminate()
        return share


def spent(pid: int) -> float:
    """CPU seconds of a process and its children."""
    total = 0.0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        for thread in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


app = Motet("memory://")


@app.task
async def nothing(number: int) -> int:
    return number


async def flowing(broker: RabbitServer) -> float:
    """Seconds from when the broker is back until a task is done that was submitted then, with a worker that stayed."""
    app.url = broker.url
    async with app, app.worker():
        assert await (await nothing.delay(1)).result(60) == 1
        await anyio.sleep(2)
        await anyio.to_thread.run_sync(broker.restart)
        began = time.monotonic()
        while True:
            try:
                handle = await nothing.delay(2)
                assert await handle.result(60) == 2
                return time.monotonic() - began
            except Unavailable:
                await anyio.sleep(0.05)


async def perform(chosen: argparse.Namespace, path: Path) -> bool:
    with of_line(chosen.line, path) as broker:
        print(f"RabbitMQ {broker.version}")
        said = await mutex(broker, path)
        print(*(said or ["no fence out of order, never two holders"]), sep="\n")
        share = await idle(broker)
        print(f"idle worker: {share:.2%} of a CPU")
        print(f"work flows {await flowing(broker):.1f} s after the broker was back")
        return not said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--line", default="", help="the version's beginning, of a server of the matrix")
    parser.add_argument("--hold", nargs=2, metavar=("URL", "JOURNAL"), help="be a holder")
    chosen = parser.parse_args()
    if chosen.hold:
        anyio.run(hold, chosen.hold[0], Path(chosen.hold[1]))
    with folder(keep=False) as path:
        sys.exit(not anyio.run(perform, chosen, path))


if __name__ == "__main__":
    main()
