"""What this client holds. A message is held by who has its sequence: whoever gets it after a lease gives it a new one.

So a removal by sequence removes nothing of a stranger's, and no clock decides who may settle.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from datetime import timedelta

import msgspec

from motet.errors import DecodeError, MotetError, Unavailable
from motet.ports import Delivery
from motet_nats.client import Client, removal
from motet_nats.connection import Message
from motet_nats.errors import MISSING, Mismatch, refuse
from motet_nats.gathering import together
from motet_nats.lanes import Lanes
from motet_nats.names import plain, sequence_of
from motet_nats.records import Records
from motet_nats.streams import Streams
from motet_nats.wire import Letter, pack, read_letter

__all__ = ["Held", "Holding", "delivered"]

STRIKES = timedelta(days=30)
"""How long the crashes of a message are remembered after the last one."""
MANY = 10_000
TIMED = "Motet-Timed"
TIMED_HEAD = b"\r\nMotet-Timed:"
SCHEDULED_HEAD = b"\r\nNats-Scheduler:"


class Held(msgspec.Struct, frozen=True, gc=False):
    """A message as it was delivered."""

    receipt: str
    sequence: int
    subject: str
    letter: Letter
    timed: bool = False
    """It came through a timer, and whoever delivers it looks whether it was taken back."""


class Holding:
    """The messages that a client holds, and for how long it knows that it does."""

    def __init__(self, client: Client, streams: Streams, lanes: Lanes) -> None:
        self.client = client
        self.streams = streams
        self.lanes = lanes
        self.lease: float = client.settings.lease.total_seconds()
        self.held: dict[str, Held] = {}
        self.until: dict[str, float] = {}
        self.leaving: set[str] = set()
        """What is being acknowledged: nobody has lost it."""
        self.renewer: Renewer | None = None
        self.lock: threading.Lock = threading.Lock()

    def hold(self, held: Held) -> None:
        """Note a delivery."""
        if len(self.held) > MANY and len(self.held) % MANY == 0:
            for receipt in [receipt for receipt in self.held if not self.lasts(receipt)]:
                self.let_go(receipt)
        self.until[held.receipt] = time.monotonic() + self.lease
        self.held[held.receipt] = held

    def lasts(self, receipt: str) -> bool:
        """Say whether a lease of ours is not over yet."""
        return self.until.get(receipt, 0.0) > time.monotonic()

    def let_go(self, receipt: str) -> None:
        self.held.pop(receipt, None)
        self.until.pop(receipt, None)

    async def find(self, delivery: Delivery) -> Held | None:
        """Find what was delivered, also to another client; None when its lease is over."""
        receipt = delivery.receipt
        if (held := self.held.get(receipt)) is not None:
            return held if self.lasts(receipt) else None
        sequence, _ = sequence_of(receipt)
        stored = await self.streams.at(self.client.names.messages, sequence) if sequence else None
        if stored is None or (letter := read_letter(stored.data)).id != delivery.id:
            return None
        return Held(receipt, sequence, stored.subject, letter)

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Forget messages for good, unless somebody else has them by now."""
        stream = self.client.names.messages
        receipts = {each.receipt: place for each in deliveries if (place := self._sequence(each.receipt))}
        self.leaving.update(receipts)
        try:
            # With replicas requests may overtake one another, and others decide what is done.
            ask = self.client.ask_in_turn if self.streams.direct else self.client.ask_all
            answers = await ask([removal(stream, place) for place in receipts.values()])
            for receipt, answer in zip(receipts, answers, strict=True):
                if not isinstance(answer, MotetError):
                    self.let_go(receipt)
            refuse(answers, self.client.location.name, but=MISSING)
        finally:
            self.leaving.difference_update(receipts)

    def _sequence(self, receipt: str) -> int:
        held = self.held.get(receipt)
        return held.sequence if held is not None else sequence_of(receipt)[0]

    async def pass_on(self, held: Held, charged: int = 0) -> None:
        """Put a message back into its lane, under a new sequence, unless somebody else has done so.

        Whoever held it before can do nothing to it any more.
        """
        self.let_go(held.receipt)
        given = held.letter
        letter = msgspec.structs.replace(
            given, deliveries=given.deliveries + charged, suspect=given.suspect or charged > 0
        )
        within = f"{self.client.names.of_id(letter.id)}.>"
        try:
            headers = {TIMED: "1"} if held.timed else None
            await self.client.publish(
                held.subject, pack(letter), expect=held.sequence, within=within, headers=headers, once=True
            )
        except Mismatch:
            await self._clear(held, within)

    async def _clear(self, held: Held, within: str) -> None:
        """Remove what is left of a message that was brought elsewhere by somebody who died before it was removed."""
        stored = await self.streams.last(self.client.names.messages, within)
        if stored is None or stored.sequence <= held.sequence or stored.subject == held.subject:
            return
        if read_letter(stored.data).nonce == held.letter.nonce:
            await self.streams.delete(self.client.names.messages, held.sequence)

    async def replace(self, held: Held, subject: str, letter: Letter, headers: dict[str, str] | None = None) -> int:
        """Bring a message to another subject, and return its sequence there; 0 when it is not ours any more."""
        self.let_go(held.receipt)
        within = f"{self.client.names.of_id(letter.id)}.>"
        try:
            sequence = await self.client.publish(
                subject, pack(letter), expect=held.sequence, within=within, headers=headers, once=True
            )
        except Mismatch:
            return 0
        await self.streams.delete(self.client.names.messages, held.sequence)
        return sequence

    async def give_back(self, messages: Sequence[Message]) -> None:
        """Put back what nobody here has seen."""
        await together([self._give_back(message) for message in messages])

    async def _give_back(self, message: Message) -> None:
        held, deliveries = delivered(message)
        await self.pass_on(held, charged=deliveries - 1)

    async def strike(self, delivery: Delivery, records: Records) -> int:
        """Count a crash of a message (T11)."""
        held = await self.find(delivery)
        if held is None or await self.streams.at(self.client.names.messages, held.sequence) is None:
            return 0
        return await records.add(self.client.names.record("n", held.letter.nonce), 1, STRIKES)

    # From other threads.

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        """Renew leases, and block; for whoever has no event loop, or one that is busy.

        Raises:
            Unavailable: There was no answer; they may be renewed.
        """
        with self.lock:
            if self.renewer is None:
                self.renewer = Renewer(self)
            return self.renewer.extend(receipts)

    def close(self) -> None:
        """End the thread."""
        with self.lock:
            if self.renewer is not None:
                self.renewer.close()
                self.renewer = None


class Renewer:
    """A thread with a loop and a connection of its own, which are not late when the worker's loop is."""

    def __init__(self, holding: Holding) -> None:
        self.holding = holding
        self.client: Client = Client(holding.client.location, holding.client.settings)
        self.streams: Streams = Streams(self.client)
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.thread: threading.Thread = threading.Thread(target=self._serve, name="motet-nats-leases", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        """Renew, and wait for the answers."""
        asked = asyncio.run_coroutine_threadsafe(self._extend(receipts), self.loop)
        try:
            return asked.result(self.client.timeout + 1)
        except Late as error:
            asked.cancel()
            raise Unavailable(f"{self.client.location.name}: no answer in time") from error

    async def _extend(self, receipts: Sequence[str]) -> list[bool]:
        return await together([self._renew(receipt) for receipt in receipts])

    async def _renew(self, receipt: str) -> bool:
        holding = self.holding
        if receipt in holding.leaving:
            return True
        held = holding.held.get(receipt)
        if held is None or not holding.lasts(receipt):
            return False
        until = time.monotonic() + holding.lease
        await self.client.ask(receipt, b"+WPI")
        # A message that has another holder has another sequence.
        if await self.streams.at(self.client.names.messages, held.sequence) is None:
            return receipt in holding.leaving
        if receipt in holding.until:
            holding.until[receipt] = until
        return True

    def close(self) -> None:
        """Hang up, and end the thread."""

        async def end() -> None:
            with suppress(Exception):
                await self.client.close()
            self.loop.call_soon(self.loop.stop)

        asyncio.run_coroutine_threadsafe(end(), self.loop)
        self.thread.join(2)


def delivered(message: Message) -> tuple[Held, int]:
    """Read what the server has delivered, and how often it has."""
    sequence, deliveries = sequence_of(message.reply)
    timed = TIMED_HEAD in message.head or SCHEDULED_HEAD in message.head
    try:
        letter = read_letter(message.data)
    except DecodeError:
        # Somebody else wrote there: it is for the worker to bury it, with the reason.
        run, rest = message.subject.split(".")[3:5]
        letter = Letter(0, f"{plain(run)}:{plain(rest)}", "foreign", True, 0, "", message.data)
    return Held(message.reply, sequence, message.subject, letter, timed), deliveries
