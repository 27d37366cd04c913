"""One place: work goes on while processes die there, then everything is waited for, and judged."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import anyio
import attrs
from checker import Violation, check, executions, nodes
from fleet import TURN, WORKERS, Fleet, Player, until
from history import History, Mark, Outcome, Run, State
from mixture import KINDS, LEASE, Piece, app
from points import LARGE, Point

from motet import ResultTimeout, TaskCancelled, TaskFailed, Unavailable
from motet.canvas.records import RUN, outcome_key
from motet.message import Place
from motet.worker.execute import leaves

__all__ = ["PATIENCE", "Phase", "Report"]

FROZEN = {"rabbitmq": 6.0}
"""Seconds of a freeze, where that is not two leases: three heartbeats."""
HINDERED = {"sqlite", "ordered", "rabbitmq"}
"""Where a frozen worker may keep others from the flags of cancelled runs: it has the file's lock, or their shard."""
VICTIMS = (2, 3)
"""Which of the workers are killed; the others see to it that work goes on."""
LOAD = 5
"""Runs at a time."""
CLIENTS = 3
FEEL = 0.05
PATIENCE = 45.0
"""Seconds after which a kill that has not come, or an outcome, never will."""


@attrs.frozen
class Report:
    """What a place has shown."""

    point: Point
    kills: int
    runs: int
    executions: int
    nodes: int
    seconds: float
    violations: list[Violation]


class Phase:
    """The kills of one place, in a fleet that stays."""

    def __init__(self, fleet: Fleet, point: Point, name: str, patience: float) -> None:
        self.fleet = fleet
        self.point = point
        self.name = name
        self.patience = patience
        self.ids = itertools.count()
        self.runs: dict[str, Run] = {}
        self.pieces: dict[str, Piece] = {}
        self.outcomes: list[Outcome] = []
        self.wrong: list[Violation] = []
        self.first = 0
        self.kills = 0
        self.waking = 0
        self.over = False
        self.slack = 0.0

    async def play(self, kills: int) -> Report:
        """Kill so often, wait for all that was accepted, judge."""
        began = time.monotonic()
        self.first = len(self.fleet.all)
        await self.man(armed=self.point.who == "worker")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.feel)
            for number in range(1 if LARGE.intersection(self.point.kinds) or self.point.who != "worker" else LOAD):
                tasks.start_soon(self.load, number)
            try:
                await self.attack(kills)
            except* TimeoutError as errors:
                self.wrong += [Violation("harness", "", str(error)) for error in leaves(errors)]
            self.over = True
        if self.point.who == "worker":
            # What is still armed may die on its way out, like the others.
            for slot in VICTIMS:
                await self.fleet.retire(slot)
        await self.drain()
        await self.look_again()
        return self.judge(time.monotonic() - began, sum(player.killed for player in self.fleet.all[self.first :]))

    async def feel(self) -> None:
        """Notice how late this machine wakes who sleeps."""
        while not self.over:
            due = time.monotonic() + FEEL
            await anyio.sleep(FEEL)
            self.slack = max(self.slack, time.monotonic() - due)

    # Runs.

    async def load(self, number: int) -> None:
        """Submit one run after the other, and wait for each."""
        for kind in itertools.islice(itertools.cycle(self.point.kinds), number, None):
            if self.over:
                return
            root = f"{self.name}-{next(self.ids)}"
            await self.submit(root, kind)
            await self.follow(root)

    async def submit(self, root: str, kind: str) -> None:
        piece = self.pieces[root] = KINDS[kind](root)
        self.runs[root] = Run(root, piece.shape, accepted=False)
        while not self.runs[root].accepted:
            with suppress(Unavailable):  # on a busy machine; the same id again makes sure of one run
                await piece.submit(root)
                self.runs[root] = Run(root, piece.shape)

    async def follow(self, root: str) -> None:
        """Cancel a run that is made for it, and wait for its end."""
        outcome = None
        if self.pieces[root].cancel and self.point.who != "cancel":
            outcome = await self.see(root, 0.1)
            if outcome is None:
                await self.cancel(root)
        outcome = outcome or await self.see(root, self.patience)
        if outcome is not None:
            self.outcomes.append(outcome)

    async def cancel(self, root: str) -> None:
        while True:
            with suppress(Unavailable):  # as in `submit`: a worker may be frozen while it holds SQLite's one lock
                await app.handle(root).cancel("the mixture asks")
                break
        self.runs[root] = attrs.evolve(self.runs[root], cancelled=time.monotonic())

    async def see(self, root: str, limit: float) -> Outcome | None:
        """Say how a run ended; None when it has not."""
        state: State = "ok"
        value = None
        give_up = time.monotonic() + limit
        while True:
            try:
                value = await app.handle(root).result(max(0, give_up - time.monotonic()))
            except TaskFailed:
                state = "failed"
            except TaskCancelled:
                state = "cancelled"
            except ResultTimeout:
                return None
            except Unavailable:  # its shard changes hands
                if time.monotonic() > give_up + self.patience:
                    raise
                continue
            return Outcome(root, root, state, value)

    # Kills.

    async def man(self, *, armed: bool) -> None:
        """See to four workers, of which those that shall die are fresh, and the others know nothing of it."""
        for slot in range(WORKERS):
            player = self.fleet.workers[slot]
            if player is None or player.gone:
                self.fleet.workers[slot] = None
            elif armed and slot in VICTIMS:
                await self.fleet.retire(slot)
        for slot in range(WORKERS):
            if self.fleet.workers[slot] is None:
                self.fleet.work(slot, self.point.armed(slot) if armed and slot in VICTIMS else "")

    async def attack(self, kills: int) -> None:
        if self.point.who != "worker":
            await self.kill_clients(kills)
        elif self.point.stop:
            await self.freeze_workers(kills)
        else:
            await self.kill_workers(kills)

    async def kill_workers(self, kills: int) -> None:
        """Have so many workers reach the place, and a new one for each."""
        number = itertools.count(VICTIMS[-1] + 1)
        while self.kills < kills:
            await until(lambda: any(map(self.fell, VICTIMS)), PATIENCE, f"a worker at {self.point.name}")
            for slot in filter(self.fell, VICTIMS):
                self.kills += 1
                self.fleet.work(slot, self.point.armed(next(number)) if self.kills < kills else "")

    async def freeze_workers(self, kills: int) -> None:
        """Have so many workers freeze at the place."""
        numbers = itertools.count(VICTIMS[-1] + 1)
        async with anyio.create_task_group() as tasks:
            for slot in VICTIMS:
                tasks.start_soon(self.freeze, slot, kills, numbers)
            for number in range(1, kills + 1):
                await until(partial(self.had, number), PATIENCE, f"a worker at {self.point.name}")

    async def freeze(self, slot: int, kills: int, numbers: Iterator[int]) -> None:
        """Wake whoever freezes here, each in its own time: one may hold the lock that the other needs to end."""
        while self.kills < kills or self.waking:
            if self.fell(slot):
                self.waking += 1
                await self.wake(slot)
                self.waking -= 1
                self.kills += 1
                if self.kills >= kills:
                    return
                self.fleet.work(slot, self.point.armed(next(numbers)))
            await anyio.sleep(TURN)
        await self.fleet.retire(slot)  # or it might freeze with the lock when nobody looks after it any more

    def had(self, kills: int) -> bool:
        return self.kills >= kills

    def fell(self, slot: int) -> bool:
        """Whether a worker has reached the place."""
        player = self.fleet.workers[slot]
        if player is None or (player.gone and not player.killed):
            raise TimeoutError(f"a worker ended by itself: {player and player.process.returncode}")
        return player.frozen if self.point.stop else player.killed

    async def wake(self, slot: int) -> None:
        """Let what a frozen worker holds become others', then let it go on: it settles late, and ends."""
        await anyio.sleep(self.frozen)  # the fault itself
        player = self.fleet.workers[slot]
        assert player is not None
        player.wake()
        await self.fleet.retire(slot)

    @property
    def frozen(self) -> float:
        """Seconds of a freeze."""
        return FROZEN.get(self.point.on, 2 * LEASE)

    async def kill_clients(self, kills: int) -> None:
        """Have so many clients die there, each in the middle of a call, which is then made again."""
        limiter = anyio.CapacityLimiter(CLIENTS)
        async with anyio.create_task_group() as tasks:
            for number in range(kills):
                tasks.start_soon(self.kill_client, limiter, self.point.kinds[number % len(self.point.kinds)])

    async def kill_client(self, limiter: anyio.CapacityLimiter, kind: str) -> None:
        root = f"{self.name}-{next(self.ids)}"
        async with limiter:
            if self.point.who == "cancel":
                await self.submit(root, kind)
                await self.dies(self.fleet.start("cancel", root, point=self.point.armed(0)))
                await self.cancel(root)
            else:
                await self.dies(self.fleet.start("submit", kind, root, point=self.point.armed(0)))
                await self.see_to(root)
                await self.submit(root, kind)
            if LARGE.intersection(self.point.kinds):
                # Twenty of these at once would each wait for all others, longer than anybody has patience.
                await self.follow(root)
                return
        await self.follow(root)

    async def dies(self, client: Player) -> None:
        await until(lambda: client.gone, PATIENCE, f"the end of a client at {self.point.name}")
        if not client.killed:
            raise TimeoutError(f"a client did not pass {self.point.name}")
        self.kills += 1

    async def see_to(self, root: str) -> None:
        """What a client left that died before its run began must be looked after, should nobody call again."""
        store, transport = app.backend.store, app.backend.transport
        left = await store.names(root, "")
        ended = outcome_key(root, Place("", 0)).name in left
        if left and RUN not in left and not ended and await transport.find([root]) == [None]:
            self.wrong.append(Violation("I8", root, f"nothing will ever remove {left[:3]}"))

    # The end.

    async def drain(self) -> None:
        """Wait until nothing moves, and what is to be swept is gone."""
        with anyio.move_on_after(PATIENCE) as scope:
            while any(info.ready or info.held for info in await app.backend.transport.queues()):
                await anyio.sleep(0.02)
            for root in (root for root, piece in self.pieces.items() if "result_ttl" in piece.options):
                while await app.backend.store.names(root, ""):
                    await anyio.sleep(0.02)
        if scope.cancelled_caught:
            left = [info for info in await app.backend.transport.queues() if info.ready or info.held]
            self.wrong.append(Violation("I8", "", f"something is left: {left}"))

    async def look_again(self) -> None:
        """Read every outcome once more: it must be what it was."""
        for outcome in list(self.outcomes):
            if "result_ttl" not in self.pieces[outcome.root].options:
                again = await self.see(outcome.root, 0)
                self.outcomes += [again] if again is not None else []

    def judge(self, seconds: float, killed: int) -> Report:
        marks: list[Mark] = self.fleet.marks()
        losses = self.fleet.losses()
        if self.point.stop:
            # All that a frozen worker held goes to others, as with a kill.
            losses += sum(player.woken > 0 for player in self.fleet.all[self.first :])
            self.slack += self.frozen if self.point.on in HINDERED else 0.0
        woken = {player.process.pid: player.woken for player in self.fleet.all if player.woken}
        history = History(self.runs, tuple(marks), tuple(self.outcomes), killed, losses, woken, self.slack)
        found = [*self.wrong, *check(history)]
        return Report(self.point, self.kills, len(self.runs), executions(history), nodes(history), seconds, found)
