"""What a campaign of faults does to any broker: runs go through a fleet whose workers and whose server are killed.

Worker processes as tests/faults has them; every body notes its start and its end in a file, and the judge there reads
them. A worker is killed while a body of it runs, and frozen now and then; the server is killed by SIGKILL too. A copy
of a message has another id, and the mark of one that came before, as a broker would deliver it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import signal
import sys
import tempfile
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread
import attrs
from checker import Violation, check, doubled, executions, lost, nodes
from fleet import Fleet, Player
from history import History, Outcome, Run, Shape, State, Step, read
from mixture import LEASE, Piece, app, called, member, total

from motet import ResultTimeout, TaskCancelled, TaskFailed, Unavailable, UnknownRun, group
from motet.message import Parcel

__all__ = ["Chaos", "Killable", "chord", "folder", "options", "tell"]

AT_ONCE = 24
"""Runs that are waited for at any time."""
EVERY = 0.5
"""Seconds between two kills of workers; the server is killed at every fifth, and a worker is frozen at every eighth."""
PATIENCE = 120.0

T = TypeVar("T")


class Killable(Protocol):
    """A server, or several of which one is killed."""

    def restart(self) -> None:
        """Kill it, and start it on what it has written."""


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
    server: Killable
    worker_kills: int
    server_kills: int
    runs: dict[str, Run] = attrs.field(factory=dict[str, Run])
    outcomes: list[Outcome] = attrs.field(factory=list[Outcome])
    killed: int = 0
    server_killed: int = 0
    woken: dict[int, float] = attrs.field(factory=dict[int, float])
    copies: int = 0
    over: bool = False
    left: str = ""
    """What nobody works off, in the end."""
    rng: random.Random = attrs.field(factory=lambda: random.Random(4))
    frozen: float = 2 * LEASE
    """Seconds that a worker stands still: until what it holds is others'."""

    # What is submitted, and how it is copied.

    @abstractmethod
    def pieces(self) -> Iterator[tuple[str, Piece]]:
        """All that is to be submitted, and more for as long as there are kills to come."""

    @abstractmethod
    async def some(self) -> Sequence[Parcel]:
        """Copies of some messages that are in the server, each under an id of its own."""

    async def meddle(self, root: str, piece: Piece) -> None:
        """Do to a run what is to be done to it before its end."""

    async def follow(self, root: str, outcome: Outcome) -> None:
        """Do what is to be done after its end."""

    # The course of it.

    async def play(self) -> None:
        """Submit and kill until there was enough of both, then wait for everything."""
        for slot in range(len(self.fleet.workers)):
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

    @property
    def enough(self) -> bool:
        return self.killed >= self.worker_kills and self.server_killed >= self.server_kills

    async def load(self, pieces: Iterator[tuple[str, Piece]]) -> None:
        """Submit one run after the other, and wait for each."""
        for root, piece in pieces:
            self.runs[root] = Run(root, piece.shape, accepted=False)
            await self.insist(partial(piece.submit, root))  # the same id again is the same run
            self.runs[root] = Run(root, piece.shape)
            await self.meddle(root, piece)
            outcome = await self.see(root, root)
            if outcome is not None:
                self.outcomes.append(outcome)
                await self.follow(root, outcome)

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call until the server is there to answer it."""
        while True:
            try:
                return await call()
            except Unavailable:
                await anyio.sleep(0.1)

    async def see(self, root: str, run: str) -> Outcome | None:
        """Say how a run ended; None when it has not."""
        give_up = time.monotonic() + PATIENCE
        while (left := give_up - time.monotonic()) > 0:
            state: State = "ok"
            value: Any = None
            try:
                value = await app.handle(run).result(left)
            except TaskFailed:
                state = "failed"
            except TaskCancelled:
                state = "cancelled"
            except (ResultTimeout, UnknownRun):
                return None
            except Unavailable:
                await anyio.sleep(0.1)
                continue
            return Outcome(root, run, state, value)
        return None

    # Faults.

    async def kill(self) -> None:
        """Kill a worker that holds work, and now and then the server; start them again."""
        for turn in itertools.count(1):
            if self.over or self.enough:
                return
            await anyio.sleep(EVERY)
            if self.killed < self.worker_kills:
                slot = self.rng.randrange(len(self.fleet.workers))
                while not self.holds((player := self.worker(slot)).process.pid) and not self.over:
                    await anyio.sleep(0.001)
                player.send(signal.SIGKILL)
                player.process.wait()
                self.killed += 1
                self.fleet.work(slot)
            if turn % 8 == 0:
                await self.freeze(self.rng.randrange(len(self.fleet.workers)))
            if turn % 5 == 0 and self.server_killed < self.server_kills:
                await anyio.to_thread.run_sync(self.server.restart)
                self.server_killed += 1

    def worker(self, slot: int) -> Player:
        """The worker there; as a supervisor would, start one where it has ended, for it found no server."""
        player = self.fleet.workers[slot]
        return self.fleet.work(slot) if player is None or player.gone else player

    async def freeze(self, slot: int) -> None:
        """Let a worker stand still until what it holds is others'; it settles late, and goes on."""
        player = self.worker(slot)
        player.send(signal.SIGSTOP)
        await anyio.sleep(self.frozen)  # the fault itself
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
                parcels = await self.some()
                await app.backend.transport.publish(parcels)
                self.copies += len(parcels)
            except Unavailable:
                await anyio.sleep(0.1)

    # The end.

    async def drain(self) -> None:
        """Wait until nothing moves; note what is left."""
        with anyio.move_on_after(PATIENCE) as scope:
            while any(info.ready or info.held for info in await self.insist(app.backend.transport.queues)):
                await anyio.sleep(0.05)
        if scope.cancelled_caught:
            runs = list(self.runs)
            places = await self.insist(partial(app.backend.transport.find, runs))
            held = [f"{place} {run}" for run, place in zip(runs, places, strict=True) if place]
            infos = [info for info in await self.insist(app.backend.transport.queues) if info.ready or info.held]
            self.left = f"something is left: {infos} {held[:20]}"

    def history(self) -> History:
        # A server that dies takes the answers of all workers with it: each may run what it holds again.
        kills = self.killed + len(self.woken) + self.server_killed * len(self.fleet.workers) + self.copies
        return History(
            self.runs, tuple(self.fleet.marks()), tuple(self.outcomes), kills, self.fleet.losses(), self.woken
        )


@contextmanager
def folder(*, keep: bool) -> Iterator[Path]:
    """Have a folder for all that a campaign writes."""
    if keep:
        path = Path(tempfile.mkdtemp(prefix="motet-chaos-"))
        print(path)
        yield path
    else:
        with tempfile.TemporaryDirectory(prefix="motet-chaos-") as name:
            yield Path(name)


def options(about: str | None) -> argparse.ArgumentParser:
    """What every campaign can be told."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    parser.add_argument("--keep", action="store_true", help="leave the folder with histories and logs where it is")
    return parser


def tell(chaos: Chaos, began: float) -> None:
    """Judge, say what came out, and end with the exit code that it deserves."""
    history = chaos.history()
    violations: list[Violation] = check(history)
    violations += [Violation("I8", "", chaos.left)] if chaos.left else []
    print(f"{nodes(history):,} bodies in {len(chaos.runs):,} runs")
    print(f"{chaos.killed} workers killed while they held work, {len(chaos.woken)} frozen past their leases")
    print(f"{chaos.server_killed} servers killed, {chaos.copies:,} messages copied, {history.losses} leases lost")
    print(f"{executions(history) - nodes(history):,} bodies run again")
    print(f"{lost(violations)} lost, {doubled(violations)} doubled, {len(violations)} violations")
    print(f"{time.monotonic() - began:.0f} s")
    for violation in violations[:20]:
        print("  ", *violation)
    sys.exit(bool(violations))
