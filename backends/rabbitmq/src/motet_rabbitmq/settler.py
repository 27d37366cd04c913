"""Port P on RabbitMQ: a program goes to the shard of its run, whole, with the acknowledgement of what it settles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from motet.engine.ordered import OrderedSettler
from motet.engine.wellformed import check_program
from motet.errors import MotetError, UsageError
from motet.failpoints import hit
from motet.message import Key
from motet.ports import Entry, Reply, Settler
from motet.program import Arrive, Conflict, Do, Drop, Guard, Once, Op, Open, Publish, Put, Retry
from motet_rabbitmq import ops
from motet_rabbitmq.deadletters import RabbitDeadLetters
from motet_rabbitmq.errands import Call
from motet_rabbitmq.holding import Holding
from motet_rabbitmq.letters import run_of
from motet_rabbitmq.locks import RabbitLocks
from motet_rabbitmq.machine import Machine, Settle
from motet_rabbitmq.store import RabbitStore
from motet_rabbitmq.timers import RabbitTimers
from motet_rabbitmq.transport import RabbitTransport

__all__ = ["RabbitSettler"]

TOGETHER = 100
"""Entries of one call to a shard."""


class Job:
    """An entry on its way. `after` says that its delivery is acknowledged in a second step."""

    __slots__ = ("after", "claim", "entry", "holding", "own", "receipt", "reply", "shard")

    def __init__(self, entry: Entry, shard: int, own: bool, holding: Holding | None) -> None:
        self.entry = entry
        self.shard = shard
        self.own = own
        self.claim = 0
        self.holding = holding
        self.receipt = "" if entry.delivery is None else entry.delivery.receipt
        self.reply = Reply()
        release = entry.settlement is not None and bool(entry.settlement.release)
        self.after = holding is not None and (release or holding.message.shard != shard)


class RabbitSettler:
    """One client's settler."""

    def __init__(
        self,
        transport: RabbitTransport,
        store: RabbitStore,
        timers: RabbitTimers,
        deadletters: RabbitDeadLetters,
        locks: RabbitLocks,
    ) -> None:
        self.transport = transport
        self.asking = transport.asking
        self.locks = locks
        self.ordered = OrderedSettler(transport, store, timers, deadletters, locks)

    async def settle(self, entries: Sequence[Entry]) -> list[Reply]:
        self.asking.check()
        failures: list[MotetError] = []
        replies: dict[int, Reply] = {}
        jobs: dict[int, Job] = {}
        wide: list[int] = []
        for place, entry in enumerate(entries):
            try:
                check_program(entry.program)
            except UsageError as error:
                failures.append(error)
                continue
            shard, own = self._home(entry)
            if shard is None:
                wide.append(place)
                continue
            delivery = entry.delivery
            holding = None if delivery is None else self.transport.holdings.held.get(delivery.receipt)
            jobs[place] = Job(entry, shard, own, holding)
        failures += await self._settle(list(jobs.values()))
        replies.update((place, job.reply) for place, job in jobs.items())
        for place in wide:
            try:
                replies[place] = await self.ordered.settle_one(entries[place])
            except MotetError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return [replies[place] for place in range(len(entries))]

    def _home(self, entry: Entry) -> tuple[int | None, bool]:
        """The shard that can carry the program out, None when several would have to answer; and whether it stays there.

        Then nothing that other shards forward matters to it, either.
        """
        program, of = entry.program, self.transport.shard
        if len(program) == 1 and isinstance(only := program[0], Once):  # as most are
            return of(only.key.run), True
        shard = self._answering(entry)
        return shard, shard is not None and stays(program, lambda key: of(key.run) == shard)

    def _answering(self, entry: Entry) -> int | None:
        answering, others = set[str](), list[str]()
        for run, answers in named(entry.program):
            if answers:
                answering.add(run)
            others.append(run)
        shards = {self.transport.shard(run) for run in answering}
        if len(shards) > 1:
            return None
        if shards:
            return shards.pop()
        if others:
            return self.transport.shard(others[0])
        delivery = entry.delivery
        holding = None if delivery is None else self.transport.holdings.held.get(delivery.receipt)
        return 0 if holding is None else holding.message.shard

    async def _settle(self, jobs: Sequence[Job]) -> list[MotetError]:
        by_shard: dict[tuple[int, bool], list[Job]] = {}
        for job in jobs:
            by_shard.setdefault((job.shard, job.own), []).append(job)
        hit("before_settle")
        done: list[Job] = []
        failures: list[MotetError] = []
        late = await self._answers(by_shard, done, failures)
        await self._answers(late, done, failures)
        hit("after_settle")
        try:
            await self._acknowledge(done)
        except MotetError as error:
            failures.append(error)
        return failures

    async def _answers(
        self, by_shard: Mapping[tuple[int, bool], list[Job]], done: list[Job], failures: list[MotetError]
    ) -> dict[tuple[int, bool], list[Job]]:
        """Settle jobs; return those that must go by the queue."""
        calls = [
            (part, self._begin(shard, own, part))
            for (shard, own), of_shard in by_shard.items()
            for part in (of_shard[start : start + TOGETHER] for start in range(0, len(of_shard), TOGETHER))
        ]
        late: dict[tuple[int, bool], list[Job]] = {}
        for part, call in calls:
            try:
                answers = await call.result()
            except MotetError as error:
                failures.append(error)
                continue
            for job, conflicts in zip(part, answers, strict=True):
                if conflicts:
                    job.reply = Reply(tuple(Conflict(key, stored) for key, stored in conflicts))
                elif conflicts is None:
                    late.setdefault((job.shard, False), []).append(job)
                else:
                    done.append(job)
        return late

    def _begin(self, shard: int, own: bool, jobs: Sequence[Job]) -> Call[Any]:
        """Have a shard carry programs out, and acknowledge with them what it may (P1, P9)."""
        asked: list[Settle] = []
        for job in jobs:
            held = None if job.holding is None else job.holding.held()
            job.claim = 0 if held is None else held.claim
            asked.append(Settle(ops.program(job.entry.program), None if job.after else held))
        return self.asking.begin(shard, Machine.settle_own if own else Machine.settle_all, asked)

    async def _acknowledge(self, done: Sequence[Job]) -> None:
        """Let go of locks, then of what was not acknowledged with its program, or was claimed anew meanwhile."""
        for job in done:
            if job.entry.settlement is not None and job.entry.settlement.release:
                await self.locks.release(job.entry.settlement.release)
        hit("before_ack")
        later = [(job.receipt, job.holding) for job in done if job.holding is not None and job.after]
        told = [(job.receipt, job.holding, job.claim) for job in done if job.holding is not None and not job.after]
        later += self.transport.holdings.dropped(told)
        if later:
            await self.transport.holdings.forget(later)
        hit("after_ack")


def stays(program: Iterable[Op], here: Callable[[Key], bool]) -> bool:
    """Say whether a program only does what other shards neither hear of nor meddle with."""
    for op in program:
        match op:
            case Once() | Put() | Open() | Retry():
                inside = here(op.key)
            case Guard():
                inside = all(map(here, op.keys))
            case Arrive():
                inside = here(op.key) and stays(op.then_ok, here) and stays(op.then_err, here)
            case Do():
                inside = stays(op.ops, here)
            case _:
                inside = isinstance(op, Publish)
        if not inside:
            return False
    return True


def named(program: Iterable[Op]) -> Iterator[tuple[str, bool]]:
    """The runs that a program names, and whether an answer is needed from them."""
    for op in program:
        match op:
            case Once() | Retry():
                yield op.key.run, True
            case Arrive():
                yield op.key.run, True
                yield from named(op.then_ok)
                yield from named(op.then_err)
            case Guard():
                for key in op.keys:
                    yield key.run, True
            case Do():
                yield from named(op.ops)
            case Put() | Drop() | Open():
                yield op.key.run, False
            case Publish():
                for parcel in op.parcels[:1]:
                    yield run_of(parcel.id), False
            case _:
                pass


_: type[Settler] = RabbitSettler
