"""Delays: the way a message goes is pure, and on a broker that is killed nothing falls off."""

from __future__ import annotations

import asyncio
import secrets
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some
from rabbitmq_server import RabbitServer, RunningServer

from motet.errors import Unavailable, UsageError
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.frames import Delivery, Frame
from motet_rabbitmq.ladder import DIGITS, LONGEST, Ladder, Step, route, steps
from motet_rabbitmq.link import Link
from motet_rabbitmq.location import locate

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 2_000_000_000}
DELAYS = some.integers(0, LONGEST) | some.integers(0, 16**4)
KNOWN = 1.5
"""As in test_link: seconds until a killed broker still knows its queues."""


def matches(pattern: str, key: str) -> bool:
    """Whether a topic exchange passes on, with `#` at the end only."""
    wanted, words = pattern.split("."), key.split(".")
    if wanted[-1] == "#":
        wanted, words = wanted[:-1], words[: len(wanted) - 1]
    return len(wanted) == len(words) and all(each in ("*", word) for each, word in zip(wanted, words, strict=True))


@given(DELAYS)
def test_the_waits_of_all_steps_are_the_delay(delay: int) -> None:
    assert sum(step.digit << 4 * step.level for step in steps(delay) if step.digit) == delay


@given(DELAYS, DELAYS)
def test_each_step_begins_where_the_one_before_has_led(delay: int, other: int) -> None:
    way = steps(delay)
    exchange, key = route("d", delay, "mail.high")
    if not way:
        assert exchange == "d.out"
        return

    assert exchange == f"d.{way[0].exchange}"
    for step, following in pairwise(way):
        assert following.exchange == step.level - 1
    assert way[-1].level in (0, -1)
    for step in way:
        assert matches(step.key, key)
        # At the same exchange, the way of no other delay takes this message along.
        for stranger in steps(other):
            if stranger.exchange == step.exchange and stranger != step:
                assert not matches(stranger.key, key)


def test_zeros_are_skipped() -> None:
    assert steps(0x20001) == [Step(4, 4, 2), Step(3, 0, 1)]
    assert steps(0x200) == [Step(2, 2, 2), Step(1, -1, 0)]
    assert steps(0) == []


@pytest.mark.parametrize("delay", [-1, LONGEST + 1])
def test_a_delay_that_no_ladder_has_is_refused(delay: int) -> None:
    with pytest.raises(UsageError, match="0 to"):
        steps(delay)


def test_names_that_mean_something_in_a_key_are_replaced() -> None:
    assert route("d", 0, "mail.high")[1].endswith(".mail.high")
    assert len(route("d", 0, "x" * 250)[1]) < 255
    for name in ("a.*", "#", "é"):
        token = route("d", 0, name)[1].split(".")[DIGITS:]
        assert len(token) == 1
        assert token[0].isalnum()


async def climbed(channel: Channel, queue: str, count: int, patience: float) -> list[tuple[Delivery, float]]:
    """Collect deliveries with the times at which they came."""
    consumer = await channel.consume(queue, prefetch=1000)
    found: list[tuple[Delivery, float]] = []
    async with asyncio.timeout(patience):
        while len(found) < count:
            batch = await consumer.batch()
            found += [(each, time.time()) for each in batch]
            channel.ack([each.tag for each in batch])
    return found


async def test_messages_come_when_they_are_due_and_not_before(server: RunningServer) -> None:
    link = Link(locate(server.url))
    ladder, queue = Ladder(link, f"d{secrets.token_hex(3)}"), f"target.{secrets.token_hex(3)}"
    try:
        await link.topology.declare_queue(queue, QUORUM)
        await ladder.attach(queue)
        delays = [0, 1, 15, 16, 255, 256, 300, 700, 1000, 1500]
        places = [await ladder.place(delay, queue) for delay in delays]
        places.append(await ladder.fixed(400, queue))
        channel = await link.channel(mode="confirm")
        began = time.time()
        await channel.publish(
            [
                Frame(key, b"", exchange=exchange, message_id=str(delay))
                for delay, (exchange, key) in zip([*delays, 400], places, strict=True)
            ]
        )

        found = await climbed(await link.channel(), queue, len(delays) + 1, 15)
    finally:
        await link.close()

    lateness = {int(each.message_id): (at - began) * 1000 - int(each.message_id) for each, at in found}
    assert sorted(lateness) == sorted([*delays, 400])
    assert min(lateness.values()) > -2  # two clocks, and milliseconds
    assert max(lateness.values()) < 3000


async def test_a_ladder_that_was_prepared_needs_nothing_more(server: RunningServer) -> None:
    link = Link(locate(server.url))
    ladder = Ladder(link, f"d{secrets.token_hex(3)}")
    try:
        await link.connect()
        began = time.monotonic()
        await ladder.prepare(0xFFF)
        took, known = time.monotonic() - began, len(ladder._known)
        for delay in (0, 1, 0xFFF, 0xF0F, 0x100, 0x010):
            await ladder.place(delay, "anywhere")

        assert len(ladder._known) == known
        assert took > 1
        assert await link.topology.look(f"{ladder.prefix}.2.f") is not None
    finally:
        await link.close()


async def test_a_fixed_delay_is_declared_once_and_again_on_a_new_connection(server: RunningServer) -> None:
    link = Link(locate(server.url))
    ladder = Ladder(link, f"d{secrets.token_hex(3)}")
    try:
        await link.connect()
        _, name = await ladder.fixed(60_000, "mail")
        await link.topology.delete_queue(name)
        assert await ladder.fixed(60_000, "mail") == ("", name)
        assert await link.topology.look(name) is None

        link.abort()
        await link.connect()
        await ladder.fixed(60_000, "mail")

        assert await link.topology.look(name) is not None
        with pytest.raises(UsageError, match="fixed"):
            await ladder.fixed(0, "mail")
    finally:
        await link.close()


@pytest.mark.timeout(120)
async def test_nothing_falls_off_when_the_broker_is_killed_three_times(own_server: RabbitServer) -> None:
    count = 1000
    link = Link(locate(own_server.url), timeout=60)
    ladder = Ladder(link, "d")
    try:
        await link.topology.declare_queue("target", QUORUM)
        await ladder.attach("target")
        delays = {f"id{n}": 100 + n * 37 % 0x3000 for n in range(count)}
        for delay in delays.values():
            await ladder.place(delay, "target")
        await asyncio.sleep(KNOWN)
        began = time.time()
        published = asyncio.create_task(publish(link, ladder, delays))
        found: dict[str, float] = {}
        collecting = asyncio.create_task(collect(link, found, count))
        for _ in range(3):
            await asyncio.sleep(1.5)
            await asyncio.to_thread(own_server.restart)
        await published
        async with asyncio.timeout(60):
            await collecting
    finally:
        await link.close()

    assert set(found) == set(delays)
    assert min(found[each] - began - delays[each] / 1000 for each in found) > -0.05


async def publish(link: Link, ladder: Ladder, delays: dict[str, int]) -> None:
    """Publish all, each until it is confirmed."""
    left, channel = list(delays), await link.channel(mode="confirm")
    while left:
        some, left = left[:20], left[20:]
        try:
            places = [await ladder.place(delays[each], "target") for each in some]
            await channel.publish(
                [
                    Frame(key, b"", exchange=exchange, message_id=each)
                    for each, (exchange, key) in zip(some, places, strict=True)
                ]
            )
            await asyncio.sleep(0.05)
        except Unavailable:
            left, channel = some + left, await link.channel(mode="confirm")


async def collect(link: Link, found: dict[str, float], count: int) -> None:
    """Take what comes, over reconnects, until each has come at least once."""
    while len(found) < count:
        try:
            channel = await link.channel()
            consumer = await channel.consume("target", prefetch=500)
            while len(found) < count:
                batch = await consumer.batch()
                for each in batch:
                    found.setdefault(each.message_id, time.time())
                channel.ack([each.tag for each in batch])
        except Unavailable:
            await asyncio.sleep(0.1)
