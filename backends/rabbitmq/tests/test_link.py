"""A connection and its channels, on a real broker: what they promise while it lives, and when it dies."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from rabbitmq_server import Kind, RabbitServer, RunningServer, find, server_for

from motet.errors import LeaseLost, NotSerializable, Unavailable, UsageError
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.consumer import Consumer
from motet_rabbitmq.errors import Blocked, ConsumerGone, Lost, Missing, Unroutable
from motet_rabbitmq.frames import Delivery, Frame
from motet_rabbitmq.link import Link
from motet_rabbitmq.location import locate

KNOWN = 1.5
"""Seconds after which a broker that is killed still knows a quorum queue: it writes who has which now and then.

A queue that was made within the last second is there after a restart, and has no leader: it answers nobody.
"""
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 2_000_000_000}


@asynccontextmanager
async def linked(server: RunningServer, query: str = "", **options: Any) -> AsyncGenerator[Link]:
    link = Link(locate(server.url + query), **options)
    try:
        yield link
    finally:
        await link.close()


async def made_queue(link: Link, **arguments: Any) -> str:
    name = f"test {secrets.token_hex(4)} é"
    await link.topology.declare_queue(name, {**QUORUM, **arguments})
    return name


async def filled(link: Link, bodies: Iterable[bytes]) -> str:
    queue = await made_queue(link)
    channel = await link.channel(mode="confirm")
    await channel.publish([Frame(queue, body) for body in bodies])
    return queue


async def collect(consumer: Consumer, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await consumer.batch()
    return found


async def reading(consumer: Consumer) -> asyncio.Task[list[Delivery]]:
    task = asyncio.create_task(consumer.batch())
    await asyncio.sleep(0.05)
    return task


async def ready(link: Link, queue: str, count: int) -> None:
    """Wait until so many messages of a queue are held by nobody."""
    async with asyncio.timeout(10):
        while (found := await link.topology.look(queue)) is None or found.ready != count:
            await asyncio.sleep(0.02)


# Publishing.


async def test_the_broker_says_its_version(server: RunningServer) -> None:
    async with linked(server) as link:
        assert await link.connect() == 1
        assert link.version == server.version


async def test_what_was_published_is_consumed_in_order_with_all_that_was_beside_it(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link)
        channel = await link.channel(mode="confirm")
        headers = {"text": "é", "number": 2**40, "none": None, "list": [1, {"raw": b"\0"}], "yes": True}
        await channel.publish([Frame(queue, b"%d" % n, headers=headers, message_id=f"id{n}") for n in range(300)])

        consumer = await (await link.channel()).consume(queue, prefetch=500)
        found = await collect(consumer, 300)

    assert [each.body for each in found] == [b"%d" % n for n in range(300)]
    assert [each.message_id for each in found] == [f"id{n}" for n in range(300)]
    assert found[0].headers == headers
    assert found[0].routing_key == queue
    assert not found[0].redelivered


async def test_messages_of_one_publish_and_of_one_turn_of_the_loop_are_one_write(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link)
        channel = await link.channel(mode="confirm")
        transport = channel.connection.transport
        channel.connection.transport = counting = Counting(transport)

        await asyncio.gather(*(channel.publish([Frame(queue, b"x")] * 10) for _ in range(50)))

        assert counting.writes == 1
        await ready(link, queue, 500)


class Counting:
    """A transport that counts what is written."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


async def test_a_large_body_arrives_whole_and_an_empty_one_too(server: RunningServer) -> None:
    bodies = [secrets.token_bytes(1_000_000), b"", secrets.token_bytes(131_064), b"x"]
    async with linked(server) as link:
        queue = await filled(link, bodies)
        channel = await link.channel()

        assert [each.body for each in await channel.get(queue, 9)] == bodies


async def test_what_no_queue_takes_is_told_to_whom_it_concerns_and_the_rest_is_stored(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link)
        channel = await link.channel(mode="confirm")

        good, bad, silent = await asyncio.gather(
            channel.publish([Frame(queue, b"1")]),
            channel.publish([Frame("nowhere", b"", message_id="m"), Frame(queue, b"2")]),
            channel.publish([Frame("nowhere", b"", mandatory=False)]),
            return_exceptions=True,
        )

        assert (good, silent) == (None, None)
        assert isinstance(bad, Unroutable)
        assert bad.keys == (("", "nowhere"),)
        await ready(link, queue, 2)
        await channel.publish([Frame(queue, b"3")])


async def test_an_exchange_that_is_not_there_ends_the_channel_and_says_so(server: RunningServer) -> None:
    async with linked(server) as link:
        channel = await link.channel(mode="confirm")

        with pytest.raises(Missing, match="nowhere"):
            await channel.publish([Frame("x", b"", exchange="nowhere")])

        assert not channel.alive
        with pytest.raises(Lost):
            await channel.publish([Frame("x", b"")])
        assert (await link.channel()).generation == 1


async def test_a_full_queue_refuses_and_that_is_told(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link, **{"x-max-length": 1, "x-overflow": "reject-publish"})
        channel = await link.channel(mode="confirm")

        async def overfill() -> None:
            for _ in range(100):  # the limit of a quorum queue is not exact
                await channel.publish([Frame(queue, b"x")])

        with pytest.raises(Unavailable, match="refused"):
            await overfill()


async def test_what_cannot_be_sent_is_refused_before_anything_is(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link)
        channel = await link.channel(mode="confirm")

        with pytest.raises(NotSerializable, match="object"):
            await channel.publish([Frame(queue, b""), Frame(queue, b"", headers={"x": object()})])
        with pytest.raises(NotSerializable, match="255"):
            await link.topology.look("x" * 256)
        with pytest.raises(UsageError, match="commit"):
            await (await link.channel()).publish([Frame(queue, b"")])

        await channel.publish([Frame(queue, b"")])
        await ready(link, queue, 1)


# Transactions.


async def test_a_commit_publishes_and_acknowledges(server: RunningServer) -> None:
    async with linked(server) as link:
        queue, other = await filled(link, [b"1", b"2", b"3"]), await made_queue(link)
        channel = await link.channel(mode="tx")
        held = await channel.get(queue, 3)

        await asyncio.gather(*(channel.commit([Frame(other, each.body)], [each.tag]) for each in held))
        await channel.close()

        assert (await link.topology.look(queue), await link.topology.look(other)) != (None, None)
        await ready(link, queue, 0)
        await ready(link, other, 3)


async def test_a_commit_that_fails_does_nothing_and_says_why(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await filled(link, [b"1"])
        channel = await link.channel(mode="tx")
        (held,) = await channel.get(queue)

        with pytest.raises(LeaseLost):
            await channel.commit([Frame(queue, b"2")], [held.tag, held.tag + 1])
        with pytest.raises(Missing, match="nowhere"):
            await channel.commit([Frame(queue, b"2"), Frame("x", b"", exchange="nowhere")], [held.tag])

        await ready(link, queue, 1)
        assert [each.body for each in await (await link.channel()).get(queue, 5)] == [b"1"]


async def test_a_commit_says_what_had_no_queue(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await filled(link, [b"1"])
        channel = await link.channel(mode="tx")
        (held,) = await channel.get(queue)

        with pytest.raises(Unroutable, match="nowhere"):
            await channel.commit([Frame(queue, b"2"), Frame("nowhere", b"")], [held.tag])

        await channel.commit([Frame(queue, b"3")], [])
        assert [each.body for each in await channel.get(queue, 5)] == [b"2", b"3"]


async def test_a_cancelled_commit_does_not_disturb_the_next(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link)
        channel = await link.channel(mode="tx")
        for _ in range(20):
            first = asyncio.create_task(channel.commit([Frame(queue, b"1")], []))
            await asyncio.sleep(0.0005)
            first.cancel()
            await channel.commit([Frame(queue, b"2")], [])

        assert channel.alive


# Consuming and settling.


async def test_no_more_than_the_prefetch_is_held(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await filled(link, [b"%d" % n for n in range(10)])
        channel = await link.channel(prefetch=3)
        consumer = await channel.consume(queue)
        first = await collect(consumer, 3)
        await asyncio.sleep(0.1)
        assert (consumer.waiting, channel.holding) == (0, 3)

        channel.ack([first[1].tag])
        (fourth,) = await collect(consumer, 1)
        channel.ack([first[0].tag, first[2].tag, fourth.tag])

        assert [each.body for each in await collect(consumer, 3)] == [b"4", b"5", b"6"]


async def test_a_batch_has_a_limit_and_cancelling_it_loses_nothing(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link)
        consumer = await (await link.channel()).consume(queue, prefetch=100)
        task = await reading(consumer)
        task.cancel()
        channel = await link.channel(mode="confirm")
        await channel.publish([Frame(queue, b"%d" % n) for n in range(10)])
        async with asyncio.timeout(5):
            while consumer.waiting < 10:
                await asyncio.sleep(0.01)

        assert [each.body for each in await consumer.batch(4)] == [b"0", b"1", b"2", b"3"]
        assert len(await consumer.batch()) == 6


async def test_what_is_given_back_comes_again_and_says_so(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await filled(link, [b"1", b"2"])
        channel = await link.channel()
        held = await channel.get(queue, 2)

        channel.nack([each.tag for each in held])

        again = await collect(await channel.consume(queue, prefetch=5), 2)
        assert sorted(each.body for each in again) == [b"1", b"2"]
        assert all(each.redelivered for each in again)


async def test_what_a_cancelled_get_takes_is_given_back(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await filled(link, [b"1", b"2", b"3"])
        channel = await link.channel()
        for wait in range(20):
            task = asyncio.create_task(channel.get(queue, 3))
            await asyncio.sleep(wait / 10_000)
            if task.cancel():
                await asyncio.wait([task])
            elif not task.cancelled():
                channel.nack([each.tag for each in task.result()])

        await ready(link, queue, 3)
        assert channel.holding == 0


async def test_messages_of_strangers_do_no_harm(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with linked(server) as link:
        queue = await made_queue(link)
        name = f"exchange-{secrets.token_hex(4)}"
        await link.topology.declare_exchange(name, "fanout")
        await link.topology.bind(queue, name)
        channel = await link.channel(mode="confirm")
        await channel.publish([Frame("KEY", b"1", exchange=name), Frame("KEY", b"2", exchange=name)])
        send = channel.connection.send

        monkeypatch.setattr(channel.connection, "send", lambda data: send(data.replace(b"KEY", b"\xff\xfe\xfd")))
        await channel.publish([Frame("KEY", b"3", exchange=name)])

        assert [each.body for each in await channel.get(queue, 3)] == [b"1", b"2", b"3"]


async def test_settling_twice_is_refused_here_and_the_channel_lives(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await filled(link, [b"1", b"2"])
        channel = await link.channel()
        first, second = await channel.get(queue, 2)
        channel.ack([first.tag])

        with pytest.raises(LeaseLost):
            channel.ack([first.tag, second.tag])

        channel.ack([second.tag])
        assert await channel.get(queue) == []


async def test_a_consumer_whose_queue_is_deleted_is_told_at_once(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link)
        channel = await link.channel()
        consumer = await channel.consume(queue, prefetch=5)
        task = await reading(consumer)

        await link.topology.delete_queue(queue)

        with pytest.raises(ConsumerGone, match="deleted"):
            await asyncio.wait_for(task, 5)
        with pytest.raises(ConsumerGone):
            await consumer.batch()
        assert channel.alive


async def test_a_cancelled_consumer_leaves_what_came_to_the_channel(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await filled(link, [b"1", b"2", b"3"])
        channel = await link.channel()
        consumer = await channel.consume(queue, prefetch=2)
        async with asyncio.timeout(5):
            while consumer.waiting < 2:
                await asyncio.sleep(0.01)

        left = await consumer.cancel()

        assert [each.body for each in left] == [b"1", b"2"]
        assert channel.holding == 2
        channel.nack([each.tag for each in left])
        await ready(link, queue, 3)


async def test_the_readers_of_a_channel_that_dies_are_told_at_once(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link)
        channel = await link.channel()
        task = await reading(await channel.consume(queue, prefetch=5))

        with pytest.raises(Missing):
            await channel.get("nowhere")

        with pytest.raises(Lost, match="nowhere"):
            await asyncio.wait_for(task, 5)


async def test_the_next_consumer_of_a_single_active_one_takes_over_in_order(server: RunningServer) -> None:
    async with linked(server) as link:
        queue = await made_queue(link, **{"x-single-active-consumer": True})
        first, second = await link.channel(), await link.channel()
        active = await first.consume(queue, prefetch=100)
        standby = await second.consume(queue, prefetch=100)
        channel = await link.channel(mode="confirm")
        await channel.publish([Frame(queue, b"%d" % n) for n in range(20)])
        await collect(active, 20)
        assert standby.waiting == 0

        await first.close()

        found = await collect(standby, 20)
        assert [each.body for each in found] == [b"%d" % n for n in range(20)]
        assert all(each.redelivered for each in found)


async def test_a_stream_is_read_from_its_start_and_says_where_it_is(server: RunningServer) -> None:
    async with linked(server) as link:
        name = f"stream-{secrets.token_hex(4)}"
        await link.topology.declare_queue(name, {"x-queue-type": "stream"})
        channel = await link.channel(mode="confirm")
        await channel.publish([Frame(name, b"%d" % n) for n in range(10)])

        reader = await link.channel(prefetch=100)
        consumer = await reader.consume(name, arguments={"x-stream-offset": "first"})
        found = await collect(consumer, 10)
        reader.ack([each.tag for each in found])

        assert [each.headers["x-stream-offset"] for each in found] == list(range(10))


# Topology.


async def test_queues_are_looked_at_bound_purged_and_deleted(server: RunningServer) -> None:
    async with linked(server) as link:
        topology, name = link.topology, f"exchange-{secrets.token_hex(4)}"
        queue = await made_queue(link)
        await topology.declare_exchange(name, "topic")
        await topology.declare_exchange(f"{name}.inner", "fanout")
        await topology.bind_exchange(f"{name}.inner", name, "a.#")
        await topology.bind(queue, f"{name}.inner")
        channel = await link.channel(mode="confirm")
        await channel.publish([Frame("a.b", b"", exchange=name)] * 3)
        await ready(link, queue, 3)

        assert await topology.purge(queue) == 3
        await topology.unbind(queue, f"{name}.inner")
        with pytest.raises(Unroutable):
            await channel.publish([Frame("a.b", b"", exchange=name)])
        assert await topology.delete_queue(queue) == 0
        assert await topology.delete_queue(queue) == 0
        assert await topology.look(queue) is None
        await topology.delete_exchange(name)
        await topology.delete_exchange(f"{name}.inner")


async def test_what_is_asked_beside_something_refused_is_answered_all_the_same(server: RunningServer) -> None:
    async with linked(server) as link:
        names = [f"q-{secrets.token_hex(4)}" for _ in range(10)]
        asked = [link.topology.declare_queue(name, QUORUM) for name in names]
        refused = [link.topology.bind(name, "nowhere") for name in names[:3]]

        found = await asyncio.gather(*asked, *refused, return_exceptions=True)

        assert [getattr(each, "name", None) for each in found[:10]] == names
        assert all(isinstance(each, Missing) for each in found[10:])


# Threads, and brokers that die.


def test_a_link_lives_in_a_thread_with_a_loop_of_its_own(server: RunningServer) -> None:
    async def both() -> int:
        async with linked(server) as link:
            queue = await filled(link, [b"1", b"2"])
            return len(await (await link.channel()).get(queue, 5))

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(both()))) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)

    assert found == [2, 2]


async def test_a_killed_broker_is_told_to_all_at_once_and_the_next_one_is_found(own_server: RabbitServer) -> None:
    async with linked(own_server, timeout=60) as link:
        queue = await filled(link, [b"1", b"2"])
        channel = await link.channel(mode="confirm", prefetch=5)
        consumer = await channel.consume(queue)
        held = await collect(consumer, 2)
        task = await reading(consumer)
        ended = asyncio.create_task(link.ended())
        await asyncio.sleep(KNOWN)

        own_server.kill()

        with pytest.raises(Lost):
            await asyncio.wait_for(task, 5)
        await asyncio.wait_for(ended, 5)
        with pytest.raises(Lost):
            channel.ack([held[0].tag])
        with pytest.raises(Lost):
            await channel.publish([Frame(queue, b"3")])
        starting = asyncio.create_task(asyncio.to_thread(own_server.start))
        assert await link.connect() == 2
        await starting
        channel = await link.channel(mode="confirm")
        assert channel.generation == 2
        assert [each.body for each in await channel.get(queue, 5)] == [b"1", b"2"]


async def test_nothing_confirmed_is_lost_by_a_kill(own_server: RabbitServer) -> None:
    confirmed: list[bytes] = []
    done = asyncio.Event()
    async with linked(own_server, timeout=60) as link:
        queue = await made_queue(link)

        async def publishing() -> None:
            channel: Channel | None = None
            for n in range(20_000):
                if done.is_set():
                    return
                try:
                    if channel is None or not channel.alive:
                        channel = await link.channel(mode="confirm")
                    await channel.publish([Frame(queue, b"%d" % n)])
                    confirmed.append(b"%d" % n)
                except Unavailable:
                    await asyncio.sleep(0.05)

        task = asyncio.create_task(publishing())
        await asyncio.sleep(KNOWN)
        await asyncio.to_thread(own_server.restart)
        await asyncio.sleep(1)
        done.set()
        await task
        found: set[bytes] = set()
        channel = await link.channel()
        while batch := await channel.get(queue, 500, no_ack=True):
            found |= {each.body for each in batch}

    assert len(confirmed) > 100
    assert set(confirmed) <= found


async def test_queues_that_last_outlive_a_kill_right_after_they_were_made(own_server: RabbitServer) -> None:
    async with linked(own_server, timeout=60) as link:
        await link.topology.declare_queues({"a": QUORUM, "b": QUORUM}, lasting=True)
        await asyncio.to_thread(own_server.restart)
        channel = await link.channel(mode="confirm")

        await channel.publish([Frame("a", b"1"), Frame("b", b"1")], timeout=20)

        began = time.monotonic()
        await link.topology.declare_queues({"a": QUORUM, "b": QUORUM}, lasting=True)
        assert time.monotonic() - began < 0.5


async def test_a_broker_that_stands_still_is_given_up(own_server: RabbitServer) -> None:
    async with linked(own_server, "/?heartbeat=1", timeout=1) as link:
        queue = await made_queue(link)
        channel = await link.channel(mode="confirm")
        task = await reading(await channel.consume(queue, prefetch=5))
        began = time.monotonic()

        own_server.pause()
        try:
            with pytest.raises(Unavailable):
                await channel.publish([Frame(queue, b"1")])
            with pytest.raises(Lost):
                await asyncio.wait_for(task, 10)
            took = time.monotonic() - began
            with pytest.raises(Unavailable, match="goes on trying"):
                await link.connect()
        finally:
            own_server.go_on()

        assert took < 5
        async with asyncio.timeout(20):
            while not link.alive:
                await asyncio.sleep(0.05)
        assert link.generation == 2


async def test_an_alarm_is_named_and_when_it_is_over_all_goes_on(own_server: RabbitServer) -> None:
    async with linked(own_server, timeout=1) as link:
        queue = await made_queue(link)
        channel, tx = await link.channel(mode="confirm"), await link.channel(mode="tx")
        await channel.publish([Frame(queue, b"1")])

        await asyncio.to_thread(own_server.control, "set_vm_memory_high_watermark", "0")

        async def until_refused() -> None:
            for _ in range(50):
                await channel.publish([Frame(queue, b"2")])
                await asyncio.sleep(0.05)

        with pytest.raises(Blocked, match="low on memory"):
            await until_refused()
        assert "memory" in link.blocked
        with pytest.raises(Blocked, match="low on memory"):
            await tx.commit([Frame(queue, b"3")], [])

        await asyncio.to_thread(own_server.control, "set_vm_memory_high_watermark", "0.9")
        async with asyncio.timeout(20):
            while link.blocked:
                await asyncio.sleep(0.05)
        await channel.publish([Frame(queue, b"4")])
        assert link.generation == 1


async def test_what_is_asked_while_the_broker_is_blocked_says_so(own_server: RabbitServer) -> None:
    async with linked(own_server, timeout=1) as link:
        queue = await made_queue(link)
        channel = await link.channel(mode="confirm")
        await asyncio.to_thread(own_server.control, "set_vm_memory_high_watermark", "0")
        async with asyncio.timeout(10):
            while not link.blocked:  # who does not publish is not told
                with suppress(Blocked):
                    await channel.publish([Frame(queue, b"1")])

        with pytest.raises(Blocked, match="low on memory"):
            await link.topology.look(queue)
        with pytest.raises(Blocked, match="low on memory"):
            await link.channel()


async def test_a_broker_that_throws_us_out_again_and_again_is_not_asked_without_a_pause(server: RunningServer) -> None:
    async with linked(server, timeout=1) as link:
        await link.connect()
        opened = Channel.open

        async def thrown_out(*given: Any) -> Channel:
            link.abort()
            return await opened(*given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Channel, "open", thrown_out)
            with pytest.raises(Unavailable):
                await link.channel()

        assert 2 < link.generation < 15
        link.timeout = 10.0  # the pause may be of two seconds by now
        await link.channel()


async def test_of_several_brokers_one_that_lives_is_enough(own_server: RabbitServer) -> None:
    link = Link(locate(f"amqp://guest:guest@127.0.0.1:1,127.0.0.1:{own_server.port}"))
    try:
        assert await link.connect() == 1
    finally:
        await link.close()


async def test_held_for_longer_than_the_broker_allows_is_told(kind: Kind | None, tmp_path: Path) -> None:
    settings, erlang = ["consumer_timeout = 500"], "-rabbit channel_tick_interval 500"
    impatient = server_for(kind or Kind("found", find(), ""), tmp_path, settings=settings, erlang=erlang)
    with impatient:
        async with linked(impatient) as link:
            queue = await filled(link, [b"1"])
            consumer = await (await link.channel()).consume(queue, prefetch=5)
            await collect(consumer, 1)

            with pytest.raises(Lost, match="timed out"):
                await asyncio.wait_for(consumer.batch(), 30)


async def test_a_closed_link_says_so(server: RunningServer) -> None:
    async with linked(server) as link:
        channel = await link.channel(mode="confirm")

    with pytest.raises(UsageError, match="closed"):
        await link.connect()
    with pytest.raises(Lost):
        await channel.publish([Frame("x", b"")])
