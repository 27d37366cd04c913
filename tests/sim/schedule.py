"""One schedule: a seed makes a workload, a fleet and the weather; what comes of them is judged when all is quiet."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from actors import Actor, Crashed, Edge
from calls import Execution, app
from faults import Weather
from oracle import judge
from sharers import fire, fired, use_locks
from smallness import sized
from virtual import SeededIds, SeededRng, Stuck, VirtualClock, VirtualLoop
from witness import Witness
from workload import FEATURES, Writer, numbers

from motet import Motet, Term
from motet.errors import BackendError, MotetError, ResultError
from motet.memory import MemoryBackend
from motet.message import Place
from motet.worker.loop import Worker

__all__ = ["Report", "Run", "Schedule", "simulate"]

PATIENCE = 400.0
"""Seconds after the end of the faults in which every run must have ended; most need few."""
LEASE = 3.0


@dataclass
class Run:
    """A term that a client has submitted, or tried to."""

    id: str
    term: Term[Any, Any]
    ttl: float
    accepted: bool = False
    given: bool = False
    cancels: list[tuple[float, Place]] = field(default_factory=list[tuple[float, Place]])
    seen: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])


@dataclass
class Report:
    """What came of a schedule."""

    seed: int
    mode: str
    violations: list[str]
    executions: int = 0
    kills: int = 0
    losses: int = 0
    copies: int = 0
    calls: int = 0
    met: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    trace: list[str] = field(default_factory=list[str])


class Schedule:
    """Everything that takes part, and the history that the judge reads."""

    def __init__(
        self,
        seed: int,
        mode: str,
        *,
        trace: bool = False,
        weather: Weather | None = None,
        plot: Term[Any, Any] | None = None,
    ) -> None:
        self.seed = seed
        self.ordered = mode == "ordered"
        self.rng = rng = random.Random(f"{seed} {mode}")
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.lease = LEASE
        self.world = Witness(self.clock, timedelta(seconds=LEASE))
        self.weather = weather or Weather.drawn(rng)
        self.features = frozenset(each for each in FEATURES if rng.random() < 0.45)
        self.writer = Writer(rng, self.features)
        self.executions: list[Execution] = []
        self.runs: dict[str, Run] = {}
        self.actors: list[Actor] = []
        self.kills = 0
        self.tracing = trace
        self.trace: list[str] = []
        self.large = rng.choice([0.0, 0.0, 0.3])
        self.long = rng.choice([0.0, 0.02, 0.1])
        self.faulty_for = rng.choice([2.0, 6.0, 15.0])
        # Records must outlive every message that can still come back (B6). Without fences that takes many losses.
        self.ttl = rng.choice([60.0, 600.0] if self.ordered else [0.0, 0.0, 12.0, 60.0, 600.0])
        self.plot = plot
        self.finished = 0
        self.fires = 0
        self.over = False

    def note(self, who: str, what: str) -> None:
        if self.tracing:
            self.trace.append(f"{self.clock.monotonic():9.3f}  {who:9} {what}")

    def term(self, leaves: int) -> Term[Any, Any]:
        """Write a term, as tasks do that go on with another."""
        return self.writer.term(leaves, depth=3)

    def restart(self) -> None:
        """Kill everybody."""
        for actor in self.actors:
            actor.crash("everything restarts")

    # Actors.

    def actor(self, name: str, role: str) -> Actor:
        actor = Actor(self, name, role)
        self.actors.append(actor)
        return actor

    def app(self, actor: Actor) -> Motet:
        """The app of one process: the same tasks, its own way to the world."""
        one = Motet(
            "memory://",
            namespace="sim",
            result_ttl=self.ttl,
            lease=self.lease,
            clock=self.clock,
            ids=SeededIds(f"{actor.name}-"),
            rng=SeededRng(self.rng),
        )
        one.registry.definitions = app.registry.definitions
        one.attach(Edge(actor, ordered=self.ordered))
        return one

    async def worker(self, actor: Actor, concurrency: int, life: float | None) -> None:
        """Work until stopped, or dead."""
        one = self.app(actor)
        worker = self.staffed(one, one.make_worker(concurrency=concurrency, lease_thread=False, grace=self.lease))
        renewing = asyncio.get_running_loop().create_task(self.renew(actor, worker))
        if life is not None:
            asyncio.get_running_loop().call_later(life, worker.stop)
        try:
            await worker.serve()
        finally:
            renewing.cancel()

    def staffed(self, one: Motet, worker: Worker) -> Worker:
        """Prepare a worker for what is special about a schedule; nothing is."""
        return worker

    async def renew(self, actor: Actor, worker: Worker) -> None:
        """Do what the thread of a worker does."""
        try:
            while True:
                await asyncio.sleep(worker.leases.interval)
                await actor.awake()
                worker.leases.renew()
        except Crashed:
            return

    async def fleet(self, number: int) -> None:
        """Keep one worker going: another takes its place when it dies or ends."""
        for life in range(10_000):
            actor = self.actor(f"w{number}-{life}", "worker")
            concurrency = self.rng.choice([1, 2, 4, 10])
            stop = self.rng.uniform(0.5, 5.0) if not self.weather.calm and self.rng.random() < 0.15 else None
            try:
                await actor.start(self.worker(actor, concurrency, stop))
            except (Crashed, asyncio.CancelledError, BaseExceptionGroup):
                if actor.alive or self.over:
                    raise
                self.kills += 1
            actor.alive = False
            await asyncio.sleep(self.rng.choice([0.0, 0.1, self.lease * self.rng.random()]))

    async def client(self, number: int, run: Run, options: dict[str, Any]) -> None:
        """Submit a term, and wait for what becomes of it; a client that dies and knows its id tries again."""
        await asyncio.sleep(self.rng.choice([0.0, self.rng.random()]))
        for life in range(10_000):
            actor = self.actor(f"c{number}-{life}", "client")
            try:
                await actor.start(self.submit(actor, run, options))
                break
            except (Crashed, asyncio.CancelledError):
                if actor.alive or self.over:
                    raise
                if not run.given:
                    break
            await asyncio.sleep(self.rng.random())
        self.finished += 1

    async def submit(self, actor: Actor, run: Run, options: dict[str, Any]) -> None:
        one = self.app(actor)
        made = ""
        while not made:
            try:
                made = await self.send(one, run, options)
            except BackendError:
                if not run.given:
                    return
                await asyncio.sleep(0.1)
        if self.rng.random() < 0.5:
            return
        try:
            handle = one.handle_of(made, run.term)
            run.seen.append(("ok", await handle.result(self.rng.choice([0.5, 30, 600]))))
        except (BackendError, ResultError) as error:
            run.seen.append((type(error).__name__, error))

    async def send(self, one: Motet, run: Run, options: dict[str, Any]) -> str:
        """Submit; a run exists from when its id is made."""
        ids: Any = one.ids
        if not run.given:
            run.id = f"{ids.prefix}{ids.count + 1}"
            self.runs[run.id] = run
        given: Any = options
        made, _ = await one.submitter.submit(run.term, given)
        assert made == run.id
        run.accepted = True
        self.world.keep[run.id] = max(run.ttl, 3 * self.lease)
        self.note("client", f"run {made} is accepted")
        return made

    async def canceller(self, run: Run) -> None:
        """Cancel a run, or a node of it, at some time."""
        await asyncio.sleep(self.rng.choice([0.1, 1.0, 4.0]) * self.rng.random())
        actor = self.actor(f"k-{run.id}", "client")
        place = Place("", 0 if self.rng.random() < 0.6 else self.rng.choice(list(numbers(run.term))))

        async def life() -> None:
            if not run.accepted:
                return
            try:
                run.cancels.append((self.clock.monotonic(), place))
                self.note(actor.name, f"cancels {run.id} at {place}")
                await self.app(actor).client.cancel(run.id, place, "because")
            except MotetError:
                pass

        try:
            await actor.start(life())
        except (Crashed, asyncio.CancelledError):
            if actor.alive:
                raise
        self.finished += 1

    # The course of things.

    def cast(self) -> list[Any]:
        """Draw who takes part."""
        rng, parts = self.rng, list[Any]()
        if self.plot is not None:
            return [self.client(0, Run("", self.plot, self.ttl), {})]
        for number in range(rng.choice([1, 1, 2, 3])):
            term = self.writer.term(rng.choice([1, 4, 7, 10, 23]))
            options: dict[str, Any] = {}
            given = rng.random() < 0.3
            if given:
                options["id"] = f"given{number}"
            if rng.random() < 0.15:
                options["delay"] = rng.random()
            run = Run(options.get("id", ""), term, self.ttl, given=given)
            if given:
                self.runs[run.id] = run
            parts.append(self.client(len(parts), run, options))
            if given and rng.random() < 0.5:
                parts.append(self.client(len(parts), run, options))
            if rng.random() < 0.2:
                parts.append(self.canceller(run))
        return [*parts, *self.sharing(len(parts))]

    def sharing(self, first: int) -> list[Any]:
        """Draw who shares locks and schedules, with dice of their own."""
        rng, parts = random.Random(f"{self.seed} {self.ordered} shared"), list[Any]()
        if rng.random() < 0.1:
            parts += [self.sharer(f"l{number}", rng, use_locks) for number in range(3)]
        if rng.random() < 0.1:
            terms = [self.writer.plain() for _ in range(rng.randrange(1, 5))]
            self.fires = len(terms)
            for number, term in enumerate(terms):
                run = fired("tick", number)
                self.runs[run] = Run(run, term, 600.0, accepted=True)
            parts += [self.sharer(f"f{number}", rng, fire, terms) for number in range(2)]
        return parts

    async def sharer(self, name: str, rng: random.Random, life: Any, terms: Any = None) -> None:
        """Use a lock, or fire a schedule, in the face of death."""
        for number in range(10_000):
            actor = self.actor(f"{name}-{number}", "sharer")
            one = self.app(actor)
            if terms is None:
                course = life(one.backend, actor.name, rng, self.lease)
            else:
                course = life(one.backend, one, "tick", terms)
            try:
                await actor.start(course)
                break
            except (Crashed, asyncio.CancelledError):
                if actor.alive or self.over:
                    raise
            await asyncio.sleep(rng.random())
        self.finished += 1

    async def play(self) -> None:
        """Let everybody act under faults, then without; stop when all is quiet."""
        loop = asyncio.get_running_loop()
        parts = self.cast()
        tasks = [loop.create_task(part) for part in parts]
        fleet = [loop.create_task(self.fleet(number)) for number in range(self.rng.choice([1, 2, 2, 3]))]
        try:
            await asyncio.sleep(self.faulty_for)
            self.weather.calm = True
            self.note("weather", "calms down")
            end = self.clock.monotonic() + PATIENCE
            while not (self.finished == len(parts) and self.world.quiet()):
                await asyncio.sleep(0.25)
                for task in (*tasks, *fleet):
                    if task.done() and not task.cancelled() and task.exception() is not None:
                        task.result()
                if self.clock.monotonic() > end:
                    waiting = f"{self.finished} of {len(parts)} clients have ended"
                    self.world.wrong("I1", f"not quiet after {PATIENCE:g} s: {waiting}, {self.world.left()[:3]}")
                    break
        finally:
            self.over = True
            for actor in self.actors:
                actor.alive = False
            everybody = [*tasks, *fleet, *(actor.task for actor in self.actors if actor.task is not None)]
            for task in everybody:
                task.cancel()
            await asyncio.gather(*everybody, return_exceptions=True)

    async def drain(self) -> None:
        """Let the retention of everything pass, with a worker whenever there is something to do."""
        actor = self.actor("drain", "worker")
        for _ in range(500):
            letters = self.world.letters
            dues = [due for due, _, letter in letters.parked if letter.parked]
            if not letters.all:
                break
            wait = (min(dues) - self.clock.now()).total_seconds() if dues else self.lease
            await asyncio.sleep(max(wait, 0.001))
            await actor.start(self.burst(actor))
        await asyncio.sleep(25 * 3600)
        self.world.records.expire()

    async def burst(self, actor: Actor) -> None:
        one = self.app(actor)
        one.attach(MemoryBackend(self.world, ordered=self.ordered))
        await one.make_worker(lease_thread=False, burst=True).serve()

    def perform(self) -> Report:
        """Play, judge, and look at what is left."""
        with sized(self.rng):
            try:
                self.loop.run_until_complete(self.play())
                if not self.world.violations:
                    judge(self)
                    self.loop.run_until_complete(self.drain())
                    for each in self.world.left():
                        self.world.wrong("I8", f"left behind: {each}")
            except Stuck as stuck:
                self.world.wrong("I1", str(stuck))
            finally:
                self.close()
        weather = self.weather
        return Report(
            self.seed,
            "ordered" if self.ordered else "fused",
            self.world.violations,
            len(self.executions),
            self.kills,
            self.world.losses,
            sum(self.world.copies.values()),
            weather.calls,
            weather.met,
            self.trace,
        )

    def close(self) -> None:
        """End what still runs."""
        self.loop.leap.turns = 0
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        try:
            self.loop.run_until_complete(asyncio.sleep(0.001))
        finally:
            self.loop.close()


def simulate(
    seed: int,
    mode: str,
    *,
    trace: bool = False,
    weather: Weather | None = None,
    plot: Term[Any, Any] | None = None,
) -> Report:
    """Perform one schedule; its garbage is collected in one go, by whoever performs many."""
    gc.disable()
    try:
        return Schedule(seed, mode, trace=trace, weather=weather, plot=plot).perform()
    finally:
        gc.enable()
