"""Port T on JetStream: whoever has the sequence of a message holds it, and each holder's is another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

from motet.engine.wellformed import check_count, check_each, check_parcels, check_text
from motet.errors import MotetError, Unavailable, UsageError
from motet.failpoints import hit
from motet.message import Parcel
from motet.options import Lane
from motet.ports import Admission, Delivery, QueueInfo, Transport
from motet_nats.admission import Keys
from motet_nats.client import Client
from motet_nats.connection import Message, Question
from motet_nats.errors import Mismatch, refuse
from motet_nats.finder import Finder
from motet_nats.gathering import together
from motet_nats.holding import Held, Holding, delivered
from motet_nats.lanes import SILENCE, Lanes
from motet_nats.names import lane_of, place, token
from motet_nats.news import News
from motet_nats.pauses import Pauses
from motet_nats.promoting import BACKSTOP, Promoter, short
from motet_nats.records import Records
from motet_nats.streams import Streams
from motet_nats.wire import Letter, letter_of, pack

__all__ = ["NatsTransport"]

MOST = 1000
"""Messages of one pull."""
TOGETHER = 256
"""Publishes, or removals, that are under way at once."""
MANY = 16
"""Who takes so many, and leaves some, comes back soon."""
YIELDS = 2
"""Turns of the loop that a worker gets to begin what it was given, before it asks for more: 0.05 ms of each answer."""
SOON = timedelta(milliseconds=1)
AGAIN = 0.1
"""Seconds until a server is asked again that has not answered."""
CATCH_UP = 1.0
"""Seconds after which who hands out a lane is not waited for: it may be that more is held than may be."""
TARGET = "Nats-Schedule-Target"


class Storing(msgspec.Struct, frozen=True):
    """A parcel that is about to be stored."""

    letter: Letter
    question: Question
    headers: dict[str, str] | None


class NatsTransport:
    """Moves parcels through a work queue."""

    def __init__(self, client: Client, streams: Streams, records: Records, pauses: Pauses, news: News) -> None:
        self.client = client
        self.news = news
        self.streams = streams
        self.lanes = Lanes(client, streams)
        self.holding = Holding(client, streams, self.lanes)
        self.lanes.give_back = self.holding.give_back
        self.promoter = Promoter(client, streams)
        self.pauses = pauses
        self.keys = Keys(self, records)

    # Publishing.

    async def publish(self, parcels: Sequence[Parcel]) -> None:
        self.client.check()
        check_parcels(parcels)
        await self.lanes.know(list(dict.fromkeys(parcel.lane for parcel in parcels)))
        for first in range(0, len(parcels), TOGETHER):
            # In order: each is on its way before the next one is sent, and the server takes them as they come.
            await self._hand_in_all(parcels[first : first + TOGETHER])
        if len(parcels) == 1:
            self.news.send(token(parcels[0].id.partition(":")[0]), asyncio.get_running_loop().time())

    async def _hand_in_all(self, parcels: Sequence[Parcel]) -> None:
        storing = [self._storing(parcel) for parcel in parcels]
        answers = await self.client.ask_all([each.question for each in storing])
        for parcel, each, answer in zip(parcels, storing, answers, strict=True):
            if parcel.due is not None and type(answer) is int:
                self.look_after(each.letter, each.question.subject, each.headers, answer, parcel.due)
            hit("between_parcels")
        refuse(answers, self.client.location.name)

    def _storing(self, parcel: Parcel, key: str = "") -> Storing:
        letter = letter_of(parcel, self.client.nonce(), key)
        root = self.client.names.of_id(letter.id)
        subject, headers = self.subject(letter, parcel.lane, parcel.due, root)
        asked = self.client.storing(subject, pack(letter), expect=0, within=f"{root}.>", headers=headers, once=True)
        return Storing(letter, asked, headers)

    async def hand_in(self, parcel: Parcel, key: str = "") -> None:
        """Store one parcel, unless its id is there (T10)."""
        storing = self._storing(parcel, key)
        with suppress(Mismatch):
            sequence = await self.client.store(storing.question)
            if parcel.due is not None:
                self.look_after(storing.letter, storing.question.subject, storing.headers, sequence, parcel.due)
        hit("between_parcels")

    def look_after(
        self, letter: Letter, subject: str, headers: dict[str, str] | None, sequence: int, due: datetime
    ) -> None:
        """Bring what was parked for a short time into its lane when it is due."""
        if headers is not None and headers["Nats-Schedule"] != _at(due):  # the server comes later
            self.promoter.promote(letter, subject, headers[TARGET], sequence, due)

    def subject(
        self, letter: Letter, lane: Lane, due: datetime | None, root: str = ""
    ) -> tuple[str, dict[str, str] | None]:
        """Say where a letter goes: into its lane, or aside until it is due; then the server brings it there."""
        root = root or self.client.names.of_id(letter.id)
        target = f"{root}.q.{place(lane)}.{letter.nonce}"
        if due is None or due <= (now := self.client.settings.clock.now()) + SOON:
            return target, None
        due += BACKSTOP if short(due, now) else timedelta()
        headers = {"Nats-Schedule": _at(due), TARGET: target}
        return f"{root}.d.{place(lane)}.{letter.nonce}", headers

    # Receiving.

    async def receive(
        self, lanes: Sequence[Lane], limit: int, wait: timedelta, *, paused: bool = False
    ) -> list[Delivery]:
        self.client.check()
        check_count(limit, "limit")
        check_each(lanes, Lane)
        loop = asyncio.get_running_loop()
        give_up = loop.time() + wait.total_seconds()
        taps = [self.lanes.tap(lane) for lane in lanes]
        event = asyncio.Event()
        for tap in taps:
            tap.users += 1
        self.pauses.changed.add(event)
        try:
            for _ in range(YIELDS if wait else 0):
                await asyncio.sleep(0)
            while True:
                event.clear()
                try:
                    await self.lanes.know(lanes)
                    # Whoever does not wait is not woken for the rest, and is given all that there is.
                    taken = await self._collect(lanes, min(limit, MOST), paused, patient=wait > timedelta())
                    left = give_up - loop.time()
                    if taken or left <= 0 or not limit:
                        return taken
                    await self._wait(lanes, event, left, paused)
                except Unavailable:
                    # Whoever waits for messages waits for the server too: a cluster elects for longer than a call has.
                    if loop.time() > give_up:
                        raise
                    await asyncio.sleep(AGAIN)
                self.client.check()
        finally:
            self.pauses.changed.discard(event)
            for tap in taps:
                tap.users -= 1
                if tap.came and not tap.users:
                    tap.keep(())

    async def _collect(
        self, lanes: Sequence[Lane], limit: int, paused: bool, *, patient: bool = False
    ) -> list[Delivery]:
        """Take what there is, from the first lane on.

        Who is patient is told of what comes to a calm lane; who is not gets what was published a moment ago, too.
        """
        taken: list[Delivery] = []
        empty: list[Lane] = []
        calm: list[Lane] = []
        give_up = asyncio.get_running_loop().time() + CATCH_UP
        try:
            for lane in lanes:
                if not paused and await self.pauses.holds(lane.queue):
                    continue
                tap = self.lanes.tap(lane)
                if patient and tap.calm and not tap.came and not tap.armed():
                    calm.append(lane)  # if there is nothing anywhere, we shall wait there
                    continue
                while len(taken) < limit:
                    messages = await tap.pull(limit - len(taken))
                    if not messages:
                        if not patient and await tap.behind(give_up):
                            continue
                        empty.append(lane)
                        break
                    if not paused and self.pauses.stopped(lane.queue):
                        # It was paused while they were on their way.
                        self.lanes.later(self.holding.give_back(messages))
                        break
                    taken += await self._opened(messages, lane)
                    if patient and tap.calm:
                        break
            for lane in (*(calm if taken else ()), *(empty if len(taken) == limit >= MANY else ())):
                await self.lanes.tap(lane).watch()
        except (asyncio.CancelledError, MotetError) as failure:
            if taken:
                if isinstance(failure, MotetError) and not self.client.closed:
                    return taken
                self.lanes.later(self.release(taken))
            raise
        if taken:
            hit("after_fetch")
        return taken

    async def _opened(self, messages: Sequence[Message], lane: Lane) -> list[Delivery]:
        """Make deliveries of messages, but for those that are not to be delivered, or not in this form."""
        opened: list[Delivery | None] = []
        doubtful: dict[int, tuple[Held, int]] = {}
        for message in messages:
            held, deliveries = delivered(message)
            letter = held.letter
            if held.timed or deliveries > 1 or letter.key:  # most are not: nothing is to be asked about them
                doubtful[len(opened)] = held, deliveries
            else:
                self.holding.hold(held)
            opened.append(Delivery(message.reply, letter.id, lane, letter.body, letter.deliveries + 1, letter.suspect))
        if doubtful:
            looking = asyncio.get_running_loop().create_task(self._look(doubtful, opened))
            try:
                await asyncio.shield(looking)
            except asyncio.CancelledError:
                self.lanes.later(self._return(looking, opened))
                raise
        return [each for each in opened if each is not None]

    async def _look(self, doubtful: dict[int, tuple[Held, int]], opened: list[Delivery | None]) -> None:
        """Strike out what is not to be delivered."""
        answers = await together([self._ours(*each) for each in doubtful.values()])
        for index, ours in zip(doubtful, answers, strict=True):
            if not ours:
                opened[index] = None

    async def _return(self, looking: asyncio.Task[None], opened: list[Delivery | None]) -> None:
        await looking
        await self.release([each for each in opened if each is not None])

    async def _ours(self, held: Held, deliveries: int) -> bool:
        """Say whether a message is to be delivered, and in this form, after a look at what else is known of it."""
        letter, sequence = held.letter, held.sequence
        if held.timed and await self._withdrawn(letter):
            await self.streams.delete(self.client.names.messages, sequence)
            return False
        if deliveries > 1:
            # It was somebody else's, whose lease is over: from now on it has another sequence, and is nobody's.
            await self.holding.pass_on(held, charged=deliveries - 1)
            hit("after_pass_on")
            return False
        if letter.key and not await self.keys.claim(letter.key, letter.id, sequence):
            await self.streams.delete(self.client.names.messages, sequence)
            return False
        self.holding.hold(held)
        return True

    async def _withdrawn(self, letter: Letter) -> bool:
        """Say whether a parcel was taken back while the server had begun to bring it."""
        names = self.client.names
        return await self.streams.last(names.messages, f"{names.withdrawn}.{letter.nonce}") is not None

    async def _wait(self, lanes: Sequence[Lane], event: asyncio.Event, seconds: float, paused: bool) -> None:
        """Return when one of the lanes may have something, at the latest after so many seconds."""
        taps = [self.lanes.tap(lane) for lane in lanes if paused or not self.pauses.stopped(lane.queue)]
        for tap in taps:
            tap.waiting[event] = None
        try:
            async with asyncio.timeout(min(seconds, SILENCE)):
                for tap in taps:
                    await tap.arm()
                if not any(tap.came for tap in taps):
                    await event.wait()
        except TimeoutError:
            return
        finally:
            for tap in taps:
                tap.waiting.pop(event, None)

    # What is held.

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        self.client.check()
        return self.holding.extend(receipts)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.client.check()
        check_each(deliveries, Delivery)
        await self.holding.acknowledge(deliveries)

    async def release(self, deliveries: Sequence[Delivery], delay: timedelta = timedelta()) -> None:
        self.client.check()
        check_each(deliveries, Delivery)
        due = self.client.settings.clock.now() + delay if delay > timedelta() else None
        await together([self._release(delivery, due) for delivery in deliveries])

    async def _release(self, delivery: Delivery, due: datetime | None) -> None:
        held = await self.holding.find(delivery)
        if held is None:
            return
        if due is None:
            await self.holding.pass_on(held)
            return
        letter = held.letter
        subject, headers = self.subject(letter, delivery.lane, due)
        sequence = await self.holding.replace(held, subject, letter, headers)
        if sequence:
            self.look_after(letter, subject, headers, sequence, due)

    async def strike(self, delivery: Delivery) -> int:
        self.client.check()
        check_each((delivery,), Delivery)
        return await self.holding.strike(delivery, self.keys.records)

    # Looking, and queues.

    async def find(self, runs: Sequence[str]) -> list[str | None]:
        self.client.check()
        check_text(*runs)
        finder = Finder(self.client, self.streams)
        return await together([finder.find(run) for run in runs])

    async def queues(self) -> list[QueueInfo]:
        self.client.check()
        return await Finder(self.client, self.streams).queues(await self.pauses.all())

    async def pause(self, queue: str, *, paused: bool = True) -> None:
        self.client.check()
        check_text(queue)
        await self.pauses.put(queue, paused)

    async def move(self, source: str, target: str, limit: int) -> int:
        self.client.check()
        check_text(source, target)
        check_count(limit, "limit")
        if source == target:
            raise UsageError(f"queue {source} cannot be moved to itself")
        found = [lane_of(info["name"]) for info in await Finder(self.client, self.streams).consumers()]
        lanes = sorted(lane for lane in found if lane is not None and lane.queue == source)
        moved = 0
        for lane in lanes:
            there = lane._replace(queue=target)
            await self.lanes.know([there])
            while moved < limit and (taken := await self._collect([lane], min(limit - moved, MOST), paused=True)):
                answers = await together([self._move(delivery, there) for delivery in taken])
                moved += sum(answers)
        return moved

    async def _move(self, delivery: Delivery, there: Lane) -> bool:
        held = await self.holding.find(delivery)
        if held is None:
            return False
        subject, _ = self.subject(held.letter, there, None)
        return await self.holding.replace(held, subject, held.letter) > 0

    async def admit(self, admissions: Sequence[Admission]) -> list[str]:
        self.client.check()
        check_each(admissions, Admission)
        check_parcels(admission.parcel for admission in admissions)
        await self.lanes.know([admission.parcel.lane for admission in admissions])
        return [await self.keys.admit(admission) for admission in admissions]

    async def cancel(self, name: str) -> bool:
        """Take a parked parcel back (D5).

        First comes the mark that it was taken back, and only if it is parked still: the server may have read it to
        bring it into its lane, and does so even when it is removed meanwhile (measured: 44 of 44). Whoever receives
        what came from there looks for the mark.
        """
        names = self.client.names
        root = names.of_id(name)
        parked = await self.streams.last(names.messages, f"{root}.d.>")
        if parked is None:
            return False
        mark = f"{names.withdrawn}.{parked.subject.rpartition('.')[2]}"
        try:
            await self.client.publish(
                mark, b"", expect=parked.sequence, within=f"{root}.>", headers={"Nats-TTL": "300s"}, once=True
            )
        except Mismatch:
            return False
        hit("after_withdrawn")
        return await self.streams.delete(names.messages, parked.sequence) or True

    async def close(self) -> None:
        """Give back what nobody took."""
        self.promoter.close()
        await self.lanes.close()
        self.holding.close()


def _at(due: datetime) -> str:
    """Say when, as the server reads it."""
    return f"@at {due.astimezone(UTC).isoformat(timespec='microseconds').replace('+00:00', 'Z')}"


_: type[Transport] = NatsTransport
