"""What this client holds: deliveries of lanes, claimed where their parcels are registered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256

import msgspec

from motet.errors import MotetError
from motet.identity import derive
from motet.options import Lane
from motet.ports import Delivery
from motet_rabbitmq import frames
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.letters import Claimed, Held, LaneMessage, Letters

__all__ = ["Holding", "Holdings", "Taken"]

FOREIGN = -2
"""The shard of what is no message of ours."""
_read = msgspec.msgpack.Decoder(LaneMessage).decode


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What came from a lane, not claimed yet."""

    lane: Lane
    channel: Channel
    delivery: frames.Delivery

    def give_back(self) -> None:
        """Let the broker have it again; when the channel is dead, it has."""
        with suppress(MotetError):
            self.channel.nack([self.delivery.tag])


class Holding(msgspec.Struct, gc=False):
    """A message that is held. `kept` says that the register has its body, and the lane has it no more (H9).

    `since` is when it was taken, or kept last, on the loop's clock; `renewed` is when somebody renewed it, if ever.
    """

    taken: Taken
    message: LaneMessage
    claim: int
    since: float
    kept: bool = False
    renewed: float = 0.0

    def held(self, *, body: bool = False) -> Held:
        return Held(self.message.id, self.claim, self.taken.lane, self.message.body if body else b"")


def drop(holdings: Iterable[Holding]) -> None:
    """Have the broker forget messages."""
    tags: dict[Channel, list[int]] = {}
    for holding in holdings:
        if not holding.kept:
            tags.setdefault(holding.taken.channel, []).append(holding.taken.delivery.tag)
    for channel, of_channel in tags.items():
        with suppress(MotetError):
            channel.ack(of_channel)


class Holdings:
    """All that one client holds, by receipt."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.held: dict[str, Holding] = {}
        self.ids: dict[str, str] = {}
        self.counter = itertools.count(1)

    async def open(self, taken: Sequence[Taken]) -> list[Delivery]:
        """Claim messages; what is stale is dropped, and what this client runs already goes on under its receipt."""
        read = [(each, message_of(each.delivery)) for each in taken]
        claims = await self._claim([(message, each.delivery.redelivered) for each, message in read])
        opened: list[Delivery] = []
        for (each, message), claimed in zip(read, claims, strict=True):
            if claimed is None:
                with suppress(MotetError):
                    each.channel.ack([each.delivery.tag])
            elif not self._adopt(each, message, claimed):
                opened.append(self._hold(each, message, claimed))
        return opened

    async def _claim(self, messages: Sequence[tuple[LaneMessage, bool]]) -> list[Claimed | None]:
        claims: dict[int, Claimed | None] = {}
        by_shard: dict[int, list[int]] = {}
        asked = [(message.id, message.nonce, again) for message, again in messages]
        for place, (message, _) in enumerate(messages):
            if message.shard == FOREIGN:
                claims[place] = Claimed(0, 1, True)
            else:
                by_shard.setdefault(message.shard, []).append(place)

        calls = {
            shard: self.asking.begin(shard, Letters.claim, [asked[place] for place in places])
            for shard, places in by_shard.items()
        }
        for shard, call in calls.items():
            claims.update(zip(by_shard[shard], await call.result(), strict=True))
        return [claims[place] for place in range(len(messages))]

    def _hold(self, taken: Taken, message: LaneMessage, claimed: Claimed) -> Delivery:
        receipt = f"{message.id}#{next(self.counter)}"
        now = asyncio.get_running_loop().time()
        self.held[receipt] = Holding(taken, message, claimed.claim, now)
        self.ids[message.id] = receipt
        return Delivery(receipt, message.id, taken.lane, message.body, claimed.deliveries, claimed.suspect)

    def _adopt(self, taken: Taken, message: LaneMessage, claimed: Claimed) -> bool:
        """Go on holding, under the new delivery, what came back because a channel was lost (H9)."""
        holding = self.held.get(self.ids.get(message.id, ""))
        if holding is None or holding.taken.channel.alive:
            return False
        holding.taken, holding.claim, holding.message, holding.kept = taken, claimed.claim, message, False
        holding.since = asyncio.get_running_loop().time()
        return True

    def find(self, deliveries: Iterable[Delivery]) -> list[tuple[str, Holding]]:
        """What of these is held here still."""
        found = ((each.receipt, self.held.get(each.receipt)) for each in deliveries)
        return [(receipt, holding) for receipt, holding in found if holding is not None]

    def extend(self, receipts: Sequence[str]) -> list[bool]:
        """Note that these are still worked on; in any thread."""
        now = time.monotonic()
        known = [self.held.get(receipt) for receipt in receipts]
        for holding in known:
            if holding is not None:
                holding.renewed = now
        return [holding is not None for holding in known]

    def forsake(self, lease: timedelta) -> None:
        """Give back what was renewed once and is no more: who worked on it has left it, for others to take."""
        before = time.monotonic() - 2 * lease.total_seconds()
        self._abandon([each for each in self.held.items() if 0 < each[1].renewed < before])

    def let_go(self, receipt: str) -> None:
        """Hold it no more."""
        holding = self.held.pop(receipt, None)
        if holding is not None and self.ids.get(holding.message.id) == receipt:
            del self.ids[holding.message.id]

    async def forget(self, found: Sequence[tuple[str, Holding]]) -> None:
        """Acknowledge: in the registers first, then in the lanes."""
        while found:
            claims = [(receipt, holding, holding.claim) for receipt, holding in found]
            by_shard: dict[int, list[Held]] = {}
            for _, holding in found:
                if holding.message.shard != FOREIGN:
                    by_shard.setdefault(holding.message.shard, []).append(holding.held())
            calls = [self.asking.begin(shard, Letters.forget, held) for shard, held in by_shard.items()]
            for call in calls:
                await call.result()
            found = self.dropped(claims)

    def dropped(self, claims: Sequence[tuple[str, Holding, int]]) -> list[tuple[str, Holding]]:
        """The registers know that of these claims: acknowledge in the lanes; return what was claimed anew meanwhile.

        While a register is told of a claim, its message may come back over another channel, under another claim.
        """
        found = [(receipt, holding) for receipt, holding, claim in claims if holding.claim == claim]
        drop(holding for _, holding in found)
        for receipt, _ in found:
            self.let_go(receipt)
        return [(receipt, holding) for receipt, holding, claim in claims if holding.claim != claim]

    async def give_back(self, found: Sequence[tuple[str, Holding]], delay: timedelta) -> None:
        """Queue or park what is registered, uncharged, then drop what the lanes had.

        Raises:
            Unavailable: A register does not answer; the messages go back as they are, and are charged.
        """
        while found:
            claims = [(receipt, holding, holding.claim) for receipt, holding in found]
            by_shard: dict[int, list[Held]] = {}
            for _, holding in found:
                if holding.message.shard != FOREIGN:
                    by_shard.setdefault(holding.message.shard, []).append(holding.held(body=True))
            calls = [self.asking.begin(shard, Letters.give_back, held, delay) for shard, held in by_shard.items()]
            try:
                for call in calls:
                    await call.result()
            except MotetError:
                self._abandon(found)
                raise
            self._abandon([each for each in found if each[1].message.shard == FOREIGN])
            found = self.dropped([each for each in claims if each[1].message.shard != FOREIGN])

    def _abandon(self, found: Iterable[tuple[str, Holding]]) -> None:
        """Let the broker have messages again, and go on with them no more when they come."""
        for receipt, holding in found:
            holding.taken.give_back()
            self.let_go(receipt)

    async def keep(self, age: float, lease: timedelta) -> None:
        """Have the registers keep what is held for so long, and go on keeping what they keep (H9).

        The broker takes back what a channel has held for its `consumer_timeout`, and the whole channel with it.
        """
        now = asyncio.get_running_loop().time()
        renewed = lease.total_seconds() / 3
        by_shard: dict[int, list[str]] = {}
        for receipt, holding in self.held.items():
            if holding.message.shard != FOREIGN and now - holding.since >= (renewed if holding.kept else age):
                by_shard.setdefault(holding.message.shard, []).append(receipt)
        for shard, receipts in by_shard.items():
            asked = [self.held[receipt].held(body=not self.held[receipt].kept) for receipt in receipts]
            answers = await self.asking.ask(shard, Letters.keep, asked, lease)
            for receipt, held, kept in zip(receipts, asked, answers, strict=True):
                self._kept(receipt, held.claim, kept)

    def _kept(self, receipt: str, claim: int, kept: bool) -> None:
        holding = self.held.get(receipt)
        if holding is None or holding.claim != claim:
            return
        if not kept:
            self.let_go(receipt)  # somebody else has it by now
            return
        drop([holding])
        holding.kept, holding.since = True, asyncio.get_running_loop().time()


def message_of(delivery: frames.Delivery) -> LaneMessage:
    """Read what came from a lane; what is no message of ours is one by itself, to be buried by whoever works it off."""
    try:
        message = _read(delivery.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return LaneMessage(FOREIGN, derive("foreign", sha256(delivery.body).hexdigest()), "", delivery.body)
    return message
