"""Chords on Redis while workers are killed, the server is killed, and messages come twice: what is lost or doubled?

python tests/system/redis_chords.py              # 2,000 chords of 10, 20 of 1,000, 40 workers and 8 servers killed
python tests/system/redis_chords.py --quick      # a tenth of it

Four workers, as tests/faults has them; every body notes its start and its end in a file, and the judge of that folder
reads them. A worker is killed while a body of it runs. The server has an AOF, and is killed by SIGKILL too. A copy of a
message has another id, and the mark of one that came before, as a broker would deliver it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import redis

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "faults"), str(TESTS / "servers")]

from checker import Violation, check, doubled, executions, lost, nodes
from fleet import WORKERS, Fleet
from history import History, Outcome, Run, Shape, State, Step, read
from mixture import LEASE, Piece, app, called, member, total
from redis_server import RedisServer, program

from motet import ResultTimeout, TaskFailed, Unavailable, group
from motet.message import Parcel
from motet.options import Lane

SMALL, LARGE = 2000, 20
NARROW, WIDE = 10, 1000
WORKER_KILLS, SERVER_KILLS = 40, 8
AT_ONCE = 24
"""Runs that are waited for at any time."""
EVERY = 0.5
"""Seconds between two kills of workers; the server is killed at every fifth, and a worker is frozen at every eighth."""
PATIENCE = 120.0


def chord(root: str, members: int) -> Piece:
    """A chord whose body has a callback: both must be sent once."""
    names = tuple(f"m{number}" for number in range(members))
    header = group(member.s(f"{root}/{name}", number) for number, name in enumerate(names))
    term = (header | total.s(f"{root}/total")).on_success(called.s(f"{root}/called"))
    shape = {**dict.fromkeys(names, Step()), "total": Step(names), "called": Step(("total",), fed="total")}
    return Piece(term, Shape(shape, value=sum(range(members))))


@attrs.define
class Chaos:
    """One run of it."""

    fleet: Fleet
    server: RedisServer
    small: int
    large: int
    worker_kills: int
    server_kills: int
    runs: dict[str, Run] = attrs.field(factory=dict[str, Run])
    outcomes: list[Outcome] = attrs.field(factory=list[Outcome])
    killed: int = 0
    server_killed: int = 0
    woken: dict[int, float] = attrs.field(factory=dict[int, float])
    copies: int = 0
    over: bool = False
    rng: random.Random = attrs.field(factory=lambda: random.Random(4))

    async def play(self) -> None:
        """Submit and kill until there was enough of both, then wait for everything."""
        for slot in range(WORKERS):
            self.fleet.work(slot)
        pieces = self.pieces()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.kill)
            tasks.start_soon(self.copy)
            async with anyio.create_task_group() as loads:
                for _ in range(AT_ONCE):
                    loads.start_soon(self.load, pieces)
            self.over = True
        await self.drain()

    def pieces(self) -> Iterator[tuple[str, Piece]]:
        """All that is to be submitted, and small chords beyond it for as long as there are kills to come."""
        share = max(1, self.small // max(1, self.large))
        for number in itertools.count():
            if number >= self.small and self.enough:
                return
            yield f"c{number}", chord(f"c{number}", NARROW)
            if number % share == 0 and number // share < self.large:
                yield f"w{number}", chord(f"w{number}", WIDE)

    @property
    def enough(self) -> bool:
        return self.killed >= self.worker_kills and self.server_killed >= self.server_kills

    async def load(self, pieces: Iterator[tuple[str, Piece]]) -> None:
        """Submit one run after the other, and wait for each."""
        for root, piece in pieces:
            self.runs[root] = Run(root, piece.shape, accepted=False)
            while not self.runs[root].accepted:
                try:
                    await piece.term.submit(id=root, **piece.options)  # the same id again makes sure of one run
                    self.runs[root] = Run(root, piece.shape)
                except Unavailable:
                    await anyio.sleep(0.1)
            outcome = await self.see(root)
            if outcome is not None:
                self.outcomes.append(outcome)

    async def see(self, root: str) -> Outcome | None:
        """Say how a run ended; None when it has not."""
        give_up = time.monotonic() + PATIENCE
        while (left := give_up - time.monotonic()) > 0:
            state: State = "ok"
            value: Any = None
            try:
                value = await app.handle(root).result(left)
            except TaskFailed:
                state = "failed"
            except ResultTimeout:
                return None
            except Unavailable:
                await anyio.sleep(0.1)
                continue
            return Outcome(root, root, state, value)
        return None

    # Faults.

    async def kill(self) -> None:
        """Kill a worker that holds work, and now and then the server; start them again."""
        for turn in itertools.count(1):
            if self.over or self.enough:
                return
            await anyio.sleep(EVERY)
            if self.killed < self.worker_kills:
                slot = self.rng.randrange(WORKERS)
                player = self.fleet.workers[slot]
                assert player is not None
                while not self.holds(player.process.pid) and not self.over:
                    await anyio.sleep(0.001)
                player.send(signal.SIGKILL)
                player.process.wait()
                self.killed += 1
                self.fleet.work(slot)
            if turn % 8 == 0:
                await self.freeze(self.rng.randrange(WORKERS))
            if turn % 5 == 0 and self.server_killed < self.server_kills:
                await anyio.to_thread.run_sync(self.server.restart)
                self.server_killed += 1

    async def freeze(self, slot: int) -> None:
        """Let a worker stand still until what it holds is others'; it settles late, and goes on."""
        player = self.fleet.workers[slot]
        assert player is not None
        player.send(signal.SIGSTOP)
        await anyio.sleep(2 * LEASE)  # the fault itself
        player.send(signal.SIGCONT)
        self.woken[player.process.pid] = time.monotonic()

    def holds(self, pid: int) -> bool:
        """Whether a body of a worker has begun and not ended."""
        file = self.fleet.history / f"{pid}.jsonl"
        if not file.exists():
            return False
        with file.open("rb") as journal:
            journal.seek(max(0, file.stat().st_size - 4096))
            lines = journal.read().decode().rpartition("\n")[0].splitlines()
        events = [mark.event for mark in read(lines[-16:])]
        return events.count("start") > events.count("end") + events.count("fail")

    async def copy(self) -> None:
        """Deliver messages a second time."""
        while not self.over:
            await anyio.sleep(0.05)
            try:
                found = await anyio.to_thread.run_sync(self.some)
                parcels = [
                    self.again(name.decode(), value) for name, value in found if b":r" in name and b"~" not in name
                ]
                await app.backend.transport.publish(parcels)
                self.copies += len(parcels)
            except (Unavailable, redis.RedisError):
                await anyio.sleep(0.1)

    def some(self) -> list[tuple[bytes, bytes]]:
        """Some messages that are in the server, as motet_redis keeps them."""
        with redis.Redis(port=self.server.port) as client:
            found: Any = client.hrandfield("{motet}:m", 3, withvalues=True) or []
        return list(zip(found[::2], found[1::2], strict=True))

    def again(self, name: str, value: bytes) -> Parcel:
        length = value[3]
        queue, size, priority = value[4 : 4 + length].decode().rsplit(":", 2)
        return Parcel(f"{name}~{self.copies}", Lane(queue, size, int(priority)), value[4 + length :], suspect=True)

    async def drain(self) -> None:
        """Wait until nothing moves."""
        with anyio.fail_after(PATIENCE):
            while any(info.ready or info.held for info in await app.backend.transport.queues()):
                await anyio.sleep(0.05)

    def history(self) -> History:
        # A server that dies takes the answers of all workers with it: each may run what it holds again.
        kills = self.killed + len(self.woken) + self.server_killed * WORKERS + self.copies
        return History(
            self.runs, tuple(self.fleet.marks()), tuple(self.outcomes), kills, self.fleet.losses(), self.woken
        )


@contextmanager
def folder(*, keep: bool) -> Iterator[Path]:
    if keep:
        path = Path(tempfile.mkdtemp(prefix="motet-chords-"))
        print(path)
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="motet-chords-") as name:
            yield Path(name)


async def perform(chosen: argparse.Namespace, path: Path) -> tuple[Chaos, History, list[Violation]]:
    share = 10 if chosen.quick else 1
    (path / "server").mkdir()
    (path / "fleet").mkdir()
    with RedisServer(program(), path / "server", aof=True) as server:
        app.url = server.url
        with Fleet(path / "fleet", server.url, str(path)) as fleet:
            kills = WORKER_KILLS // share, SERVER_KILLS // min(share, 4)
            chaos = Chaos(fleet, server, SMALL // share, LARGE // share, *kills)
            async with app:
                await chaos.play()
            history = chaos.history()
        return chaos, history, check(history)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    parser.add_argument("--keep", action="store_true", help="leave the folder with histories and logs where it is")
    chosen = parser.parse_args()
    began = time.monotonic()
    with folder(keep=chosen.keep) as path:
        chaos, history, violations = anyio.run(perform, chosen, path)
    broad = sum(root.startswith("w") for root in chaos.runs)
    print(f"{len(chaos.runs) - broad:,} chords of {NARROW} and {broad} of {WIDE:,}: {nodes(history):,} bodies")
    print(f"{chaos.killed} workers killed while they held work, {len(chaos.woken)} frozen past their leases")
    print(f"{chaos.server_killed} servers killed, {chaos.copies:,} messages copied, {history.losses} leases lost")
    print(f"{executions(history) - nodes(history):,} bodies run again")
    print(f"{lost(violations)} lost, {doubled(violations)} doubled, {len(violations)} violations")
    print(f"{time.monotonic() - began:.0f} s")
    for violation in violations[:20]:
        print("  ", *violation)
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
