"""The owner of one shard: reads its queue in order, lets the machine change, and writes the changes back.

What a request leads to goes out first and is confirmed. Then one transaction on the queue puts the delta in the place
of the request. Only deltas are held, and replaying one has no output (C2). Answers leave after the commit, so a process
that has lost the shard without knowing it tells nobody anything (C7).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from motet.failpoints import hit
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.consumer import Consumer
from motet_rabbitmq.errands import Errand
from motet_rabbitmq.errors import Nacked, Unroutable
from motet_rabbitmq.frames import Delivery, Frame
from motet_rabbitmq.ledger import Ledger
from motet_rabbitmq.link import Link
from motet_rabbitmq.machine import Machine
from motet_rabbitmq.names import LANE, Names, ended
from motet_rabbitmq.records import Written, moved, parts, read
from motet_rabbitmq.state import Change
from motet_rabbitmq.wire import VERSION, Delta, Replies, Reply, Request, Status, Tick, pack

__all__ = ["OutOfOrder", "ShardOwner"]

log = logging.getLogger("motet.rabbitmq")

PREFETCH = 20_000
"""Unacknowledged records of a shard. 0 would mean 2,000 and then silence, and 65,535 is the most (C4)."""
TOGETHER = 500
"""Requests that are carried out and committed together."""
ROTATE = 10_000
"""Requests before the mark of a takeover that are held; more of them go to the end of the queue, in their order."""
HELD_MOST = 1_000
SIZE_MOST = 8 * 1024 * 1024
AGE_MOST = 300.0
"""Deltas that are held, their bytes, and the seconds that one is held, before the oldest are written anew (C4, C5)."""
AGAIN = 0.05
PAUSE, LONGEST_PAUSE = 0.01, 0.1
"""Seconds between two ticks, at least. While records expire all the time, each tick is for more of them."""
RELEASE_MOST = 100
LINGER = 0.25
"""Deltas that are not needed any more, and seconds, before they are let go by themselves, and not with other things."""


class OutOfOrder(Exception):
    """Raised when the broker redelivers a record after a fresh one: two consumers were active (C6)."""


class ShardOwner:
    """One shard, from becoming its active consumer until its channel ends."""

    def __init__(self, link: Link, names: Names, index: int, clock: Callable[[], float]) -> None:
        self.link = link
        self.names = names
        self.index = index
        self.queue = names.shard(index)
        self.clock = clock
        self.machine = Machine(index, names.layout)
        self.ledger = Ledger()
        self.epoch = secrets.token_hex(4)
        self.release: list[int] = []
        """Deltas that are not needed any more."""
        self.alarm: asyncio.TimerHandle | None = None
        self.rang = False
        self.written: deque[Written] = deque()
        """Deltas that have not come back yet."""
        self.ticking = False
        self.ticked = 0.0
        self.pause = PAUSE
        self.fresh = False
        self.active = False
        self.ready = False
        """Whether it takes errands."""
        self.errands: deque[Errand] = deque()
        self.under_way: list[tuple[Errand, list[Reply]]] = []
        self.turn = asyncio.Lock()
        self._leaving = asyncio.Event()
        self.records: Channel
        self.outside: Channel
        self.consumer: Consumer

    async def serve(self) -> None:
        """Own the shard once it falls to us, until it is left."""
        opening = self.link.channel(mode="tx"), self.link.channel(mode="confirm")
        self.records, self.outside = await asyncio.gather(*opening)
        serving = asyncio.create_task(self._serve())
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait([serving, leaving], return_when=asyncio.FIRST_COMPLETED)
            async with self.turn:  # RabbitMQ fails a channel that is closed while it commits
                serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
        finally:
            serving.cancel()
            leaving.cancel()
            self._send_back()
            if self.alarm is not None:
                self.alarm.cancel()
            await self.records.close()
            await self.outside.close()

    def take(self, errand: Errand) -> bool:
        """Carry calls out that were not written into the queue; False when the shard is not ours."""
        if self.ready:
            self.errands.append(errand)
            self.consumer.stir()
        return self.ready

    def _send_back(self) -> None:
        """Let go of errands: nothing is done of those that wait."""
        self.ready = False
        under_way, waiting = self.under_way, self.errands
        self.under_way, self.errands = [], deque()
        for errand, _ in under_way:
            errand.lost()
        for errand in waiting:
            errand.untouched()

    def leave(self) -> None:
        """Give the shard up, as soon as nothing is half done."""
        self._leaving.set()

    async def _serve(self) -> None:
        self.consumer = consumer = await self.records.consume(self.queue, prefetch=PREFETCH)
        pending = await consumer.batch()
        self.active = True
        await self._tick()
        waiting: list[Delivery] = []
        while True:
            hit("in_takeover")
            for place, delivery in enumerate(pending):
                if self._replay(delivery, waiting):
                    waiting += pending[place:]
                    break
            else:
                await self._rotate(waiting)
                pending = await consumer.batch()
                continue
            break
        self.machine.turn(self.clock())
        self.machine.taken_over(self.epoch)
        hit("after_takeover")
        log.debug("%s: took over %d deltas, %d records wait", self.queue, len(self.ledger), len(waiting))
        consumer.sift = self._come_back
        self.ready = True
        while True:
            for start in range(0, max(1, len(waiting)), TOGETHER):
                async with self.turn:
                    await self._carry_out(waiting[start : start + TOGETHER])
            async with self.turn:
                await self._compact()
            waiting = await self._next(consumer)

    async def _next(self, consumer: Consumer) -> list[Delivery]:
        """Wait for records or errands, or until there is something to do without them."""
        await self._tick_when_due()
        seconds = self._patience()
        if seconds is not None:
            self._set_alarm(seconds)
        return await consumer.batch()

    def _set_alarm(self, seconds: float) -> None:
        """Go on after so many seconds, at the latest."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        if self.alarm is None or end < self.alarm.when():
            if self.alarm is not None:
                self.alarm.cancel()
            self.alarm = loop.call_at(end, self._ring)

    def _ring(self) -> None:
        self.alarm, self.rang = None, True
        self.consumer.stir()

    def _patience(self) -> float | None:
        """Seconds until there is something to do without records; None for ever."""
        ends: list[float] = []
        due, oldest, now = self.machine.state.next_due(), self.ledger.oldest(), self.clock()
        if due is not None and not self.ticking:
            ends.append(max(PAUSE, due - now, self.ticked + self.pause - now))
        if oldest is not None:
            ends.append(max(1.0, oldest + AGE_MOST - now))
        if self.release:
            ends.append(LINGER)
        return min(ends, default=None)

    async def _tick_when_due(self) -> None:
        due, now = self.machine.state.next_due(), self.clock()
        if due is not None and due <= now and not self.ticking and self.ticked + self.pause <= now:
            await self._tick()

    async def _tick(self) -> None:
        """Put the time into the log (C7)."""
        now = self.clock()
        self.pause = PAUSE if now - self.ticked > 2 * LONGEST_PAUSE else min(2 * self.pause, LONGEST_PAUSE)
        self.ticking, self.ticked = True, now
        await self.outside.publish([Frame(self.queue, pack(Tick(VERSION, self.epoch, now)))])
        hit("after_tick")

    def _replay(self, delivery: Delivery, waiting: list[Delivery]) -> bool:
        """Take one record of before our time; say whether it is our own mark, which comes after all of them."""
        if delivery.redelivered and self.fresh:
            raise OutOfOrder(f"{self.queue}: a record was redelivered after a fresh one")
        self.fresh = self.fresh or not delivery.redelivered
        record = read(delivery)
        match record:
            case Delta():
                self.machine.state.load(record.changes)
                self._hold(delivery, record.changes)
            case Tick() if record.epoch == self.epoch:
                return True
            case _:
                waiting.append(delivery)
        return False

    def _come_back(self, delivery: Delivery) -> bool:
        """Take a delta of ours; say whether it is one. Nothing waits for it, and it need not be read."""
        if not self.written or delivery.body != self.written[0].body:
            return False
        self._hold(delivery, self.written.popleft().changes)
        self._set_alarm(LINGER)
        return True

    def _hold(self, delivery: Delivery, changes: list[Change]) -> None:
        self.release += self.ledger.hold(delivery.tag, changes, len(delivery.body), self.clock())

    async def _rotate(self, waiting: list[Delivery]) -> None:
        """Bring records behind our mark when there are too many before it to be held."""
        if len(waiting) < ROTATE:
            return
        frames = [Frame(self.queue, moved(each)) for each in waiting]
        await self.records.commit(frames, [each.tag for each in waiting])
        waiting.clear()

    async def _carry_out(self, deliveries: Sequence[Delivery]) -> None:
        """Carry out records, and errands that wait: outputs, then the commit, then the answers."""
        tags: list[int] = []
        answers: list[Frame] = []
        for delivery in deliveries:
            record = read(delivery)
            match record:
                case Delta():
                    self._hold(delivery, record.changes)
                    continue
                case Tick():
                    self.ticking = self.ticking and record.epoch != self.epoch
                    self.machine.turn(record.now)
                    self.machine.tick()
                case Request():
                    self.machine.turn(self.clock(), again=delivery.redelivered or record.again)
                    try:
                        replies = self.machine.perform(record.asked)
                    except Exception as error:
                        await self._spit_out(delivery, record, error)
                        raise
                    if record.reply_to:
                        answers.append(passing(record.reply_to, pack(Replies(record.number, replies))))
            tags.append(delivery.tag)
        while self.errands:
            self._run(self.errands.popleft())
        if not self.under_way and not self.machine.state.touched:
            # Nobody waits for a commit that changes nothing. What was answered was so when the broker gave us the
            # question, for then nobody else could change it: also if the shard has become another's since.
            self.release += tags
            if answers:
                self.outside.tell(answers)
            return
        await self._send()
        await self._commit(tags)
        self._tell()
        state = self.machine.state
        told = [passing(name, body, self.names.wake) for name, body in state.notices.items()]
        # A run that another shard has decided is told of by the key of its own shard.
        keys: dict[str, list[str]] = {}
        for run in state.wakes:
            keys.setdefault(self.names.key(ended(run)), []).append(run)
        told += [passing(key, pack(runs), self.names.wake) for key, runs in keys.items()]
        state.wakes.clear()
        state.notices.clear()
        if told or answers:
            self.outside.tell([*told, *answers])

    def _run(self, errand: Errand) -> None:
        """Carry out an errand."""
        self.machine.turn(self.clock())
        try:
            replies = self.machine.perform(errand.asked)
        except Exception as error:
            errand.answer([failed(error)] * len(errand.calls))
            raise
        self.under_way.append((errand, replies))

    def _tell(self) -> None:
        """Answer errands; what came of them is committed."""
        under_way, self.under_way = self.under_way, []
        for errand, replies in under_way:
            errand.answer(replies)

    async def _spit_out(self, delivery: Delivery, request: Request, error: Exception) -> None:
        """Drop a request that cannot be carried out, which would stop the shard for ever; nothing of it is kept."""
        said = failed(error)
        await self.records.commit([], [delivery.tag])
        if request.reply_to:
            replies = Replies(request.number, [said] * len(request.asked))
            await self.outside.publish([passing(request.reply_to, pack(replies))])

    async def _send(self) -> None:
        """Publish what the records lead to outside this shard."""
        outputs = self.machine.state.outputs
        if not outputs:
            return
        frames = [Frame(output.queue, output.body) for output in outputs]
        hit("before_outputs")
        give_up = self.clock() + self.link.timeout
        while frames:
            try:
                await self.outside.publish(frames)
            except Unroutable as error:
                # A lane that nobody has used yet. The others are stored: only what came back is sent again.
                lost = {key for _, key in error.keys}
                await self.link.topology.declare_queues(dict.fromkeys(lost, LANE))
                frames = [frame for frame in frames if frame.routing_key in lost]
            except Nacked:
                # A queue that somebody is just making: which of them are stored is not known.
                if self.clock() > give_up:
                    raise
                await asyncio.sleep(AGAIN)
            else:
                break
        outputs.clear()
        hit("after_outputs")

    async def _commit(self, tags: list[int]) -> None:
        changes = self.machine.state.changes()
        # Whoever has run an errand commits even if nothing has changed: if it could not, the shard is another's by now.
        if tags or changes or self.under_way:
            await self._write(changes, tags)
            hit("after_commit")

    async def _write(self, changes: Iterable[Change], tags: list[int]) -> None:
        """Commit changes, and acknowledge; they come back in this order, and need not be read then."""
        tags, self.release = tags + self.release, []
        frames: list[Frame] = []
        for part in parts(changes):
            body = pack(Delta(VERSION, self.epoch, part))
            self.written.append(Written(body, part))
            frames.append(Frame(self.queue, body))
        await self.records.commit(frames, tags)

    async def _compact(self) -> None:
        """Write the oldest deltas anew, many in one, when there are too many, or too large or too old ones."""
        if self.release and (self.rang or len(self.release) > RELEASE_MOST):
            await self._write((), [])
        self.rang = False
        now = self.clock()
        oldest = self.ledger.oldest()
        if oldest is None:
            return
        full = len(self.ledger) > HELD_MOST or self.ledger.size > max(SIZE_MOST, 2 * self.machine.state.live)
        if not full and oldest > now - AGE_MOST:
            return
        tags, names = self.ledger.fold(max(1, len(self.ledger) // 2))
        state = self.machine.state
        hit("before_compact")
        await self._write(map(state.change, names), tags)


def failed(error: Exception) -> Reply:
    """What is said of a call at which the machine failed."""
    return Reply(Status.REFUSED, f"the owner failed at it: {type(error).__name__}: {error}".encode())


def passing(key: str, body: bytes, exchange: str = "") -> Frame:
    """A message for whoever listens now."""
    return Frame(key, body, exchange, mandatory=False, persistent=False)
