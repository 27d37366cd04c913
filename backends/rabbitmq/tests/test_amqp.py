"""Bytes of AMQP, checked without a broker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from motet.errors import DecodeError, LeaseLost, Unavailable
from motet_rabbitmq.amqp import HEAD, METHODS, decode, encode, short, table, untable
from motet_rabbitmq.confirms import Batch, Confirms
from motet_rabbitmq.errors import Lost, Unroutable
from motet_rabbitmq.frames import Delivery, Frame, marshal
from motet_rabbitmq.held import Held

FIELDS = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63), 2**63 - 1) | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=20), inner, max_size=3),
    max_leaves=10,
)
SAMPLES: dict[str, Any] = {
    "o": 7,
    "s": 300,
    "l": 70_000,
    "q": 2**40,
    "S": "naïve",
    "L": b"\0x",
    "T": {"x": 1},
    "b": True,
}


@given(some.dictionaries(some.text(max_size=60), FIELDS, max_size=5))
def test_a_table_comes_back_equal(values: dict[str, Any]) -> None:
    said = table(values)

    assert untable(said, 0) == (values, len(said))


def test_bytes_and_times_come_back_too() -> None:
    values = {"raw": b"\xff\0", "at": datetime(2026, 11, 25, tzinfo=UTC)}

    assert untable(table(values), 0)[0] == values


@pytest.mark.parametrize("name", METHODS)
def test_a_method_comes_back_equal(name: str) -> None:
    arguments = [SAMPLES[letter] for letter in METHODS[name][2]]

    frame = encode(5, name, *arguments)

    assert HEAD.unpack_from(frame)[:2] == (1, 5)
    assert decode(frame[7:-1]) == (name, arguments)


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        table({"x": object()})
    with pytest.raises(ValueError, match="64 bits"):
        table({"x": 2**63})
    with pytest.raises(ValueError, match="255"):
        short("x" * 256)
    with pytest.raises(ValueError, match="does not have"):
        decode(b"\0\1\0\1")


@pytest.mark.parametrize("size", [0, 1, 4088, 4089, 10_000])
def test_a_body_is_cut_as_the_broker_wants(size: int) -> None:
    data = b"".join(marshal([Frame("queue", bytes(size))], 1, 4096))

    kinds: list[tuple[int, int]] = []
    while data:
        kind, channel, length = HEAD.unpack_from(data)
        assert channel == 1
        assert length <= 4088
        assert data[7 + length] == 0xCE
        kinds.append((kind, length))
        data = data[8 + length :]
    assert [kind for kind, _ in kinds[:2]] == [1, 2]
    assert sum(length for _, length in kinds[2:]) == size


def test_properties_are_read_back() -> None:
    frame = Frame("queue", b"", headers={"a": 1}, message_id="id", expiration=5)
    data = marshal([frame], 1, 4096)
    raw = data[1][-2:] + data[2]

    delivery = Delivery(1, False, "", "queue", b"", raw)

    found = delivery.properties
    assert (found.headers, found.message_id, found.expiration, found.persistent) == ({"a": 1}, "id", 5, True)
    assert delivery.message_id == "id"


@pytest.mark.parametrize("raw", [b"\x20\x00\x00\x00\x00\x03\x01a?", b"\x20\x00\x00", b"\x01"])
def test_properties_that_cannot_be_read_are_told_when_they_are_asked_for(raw: bytes) -> None:
    delivery = Delivery(1, False, "", "queue", b"", raw)

    with pytest.raises(DecodeError):
        _ = delivery.properties


# What a channel holds.


def settled(held: Held, tags: list[int]) -> list[tuple[int, int]]:
    data = held.acks(tags)
    return [(int.from_bytes(data[at + 11 : at + 19], "big"), data[at + 19]) for at in range(0, len(data), 21)]


def test_the_oldest_are_settled_together_and_others_alone() -> None:
    held = Held(1)
    held.tags = dict.fromkeys([1, 2, 3, 4, 5, 6])

    assert settled(held, [3, 1, 2, 5]) == [(3, 1), (5, 0)]
    assert settled(held, [6]) == [(6, 0)]
    assert settled(held, [4]) == [(4, 0)]
    assert settled(held, []) == []


def test_what_is_not_held_cannot_be_settled_and_nothing_is() -> None:
    held = Held(1)
    held.tags = dict.fromkeys([1, 2])

    with pytest.raises(LeaseLost):
        held.acks([1, 7])

    assert list(held.tags) == [1, 2]


# What waits for confirms.


async def batches(*sizes: int) -> tuple[Confirms, list[Batch]]:
    confirms = Confirms()
    made: list[Batch] = []
    for number, size in enumerate(sizes):
        frames = [Frame(f"queue{number}", b"")] * size
        batch = Batch(frames, asyncio.get_running_loop().create_future())
        confirms.expect(batch)
        made.append(batch)
    return confirms, made


async def test_confirms_come_in_any_order_and_each_batch_waits_for_its_own() -> None:
    confirms, (first, second) = await batches(2, 2)

    confirms.answered(4, False, False)
    confirms.answered(2, True, False)
    assert (first.future.done(), second.future.done()) == (True, False)
    confirms.answered(4, True, False)

    assert second.future.done()
    assert not confirms.waiting


async def test_a_refused_message_is_told_to_its_batch_only() -> None:
    confirms, (first, second) = await batches(1, 2)

    confirms.answered(2, False, True)
    confirms.answered(3, True, False)

    await first.future
    with pytest.raises(Unavailable, match="refused 1"):
        await second.future


async def test_a_returned_message_is_told_to_its_batch_only() -> None:
    confirms, (first, second) = await batches(1, 2)

    confirms.returned("", "queue1", "")
    confirms.answered(3, True, False)

    await first.future
    with pytest.raises(Unroutable, match="queue1"):
        await second.future


async def test_a_dead_channel_is_told_to_all() -> None:
    confirms, (first, second) = await batches(1, 2)

    confirms.fail(Lost("gone"))

    for batch in (first, second):
        with pytest.raises(Lost, match="gone"):
            await batch.future
