"""What is held while its channel is lost: it may be claimed anew before the answer to the old claim has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Any, cast

import anyio
import msgspec
import pytest

from motet.errors import Unavailable
from motet.options import Lane
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.calls import Method
from motet_rabbitmq.channel import Channel
from motet_rabbitmq.frames import Delivery
from motet_rabbitmq.holding import Holdings, Taken
from motet_rabbitmq.letters import Letters
from motet_rabbitmq.machine import Layout, Machine
from motet_rabbitmq.ops import WireParcel
from motet_rabbitmq.wire import Asked

pytestmark = pytest.mark.anyio
LANE = Lane("q", "small", 1)
NONE = timedelta()


class LostChannel:
    """A channel that may be dead."""

    def __init__(self) -> None:
        self.alive = True
        self.acked: list[int] = []
        self.nacked: list[int] = []

    def ack(self, tags: Iterable[int]) -> None:
        self.acked += tags

    def nack(self, tags: Iterable[int]) -> None:
        self.nacked += tags


class Begun:
    """A call that is made when its answer is awaited."""

    def __init__(self, make: Callable[[], Awaitable[Any]]) -> None:
        self.make = make

    async def result(self) -> Any:
        return await self.make()


class OneShard:
    """Asks a machine, once something else has happened."""

    def __init__(self) -> None:
        self.machine = Machine(0, Layout(1, str, str))
        self.machine.turn(1_700_000_000.0)
        self.machine.taken_over("e")
        self.before: Callable[[], Awaitable[object]] | None = None

    def begin(self, shard: int, method: Method[Any, ..., Any], *arguments: Any) -> Begun:
        return Begun(partial(self.ask, shard, method, *arguments))

    async def ask(self, shard: int, method: Method[Any, ..., Any], *arguments: Any) -> Any:
        before, self.before = self.before, None
        if before is not None:
            await before()
        [reply] = self.machine.perform([Asked(method.name, msgspec.msgpack.encode(arguments))])
        return method.answer(reply.value)


class Scene:
    """A parcel that was received over a channel, which is lost just when something is asked of its shard."""

    def __init__(self) -> None:
        self.shard = OneShard()
        self.holdings = Holdings(cast("Asking", self.shard))
        self.old, self.new = LostChannel(), LostChannel()

    async def begin(self) -> Scene:
        await self.shard.ask(0, Letters.publish, [WireParcel("run:0", LANE, b"body")])
        self.body = self.shard.machine.state.outputs[-1].body
        assert len(await self.come(self.old, again=False)) == 1
        self.shard.before = self.come_back
        return self

    async def come(self, channel: LostChannel, *, again: bool) -> list[Any]:
        made = Delivery(7, again, "", "lane", self.body, b"\0\0")
        return list(await self.holdings.open([Taken(LANE, cast("Channel", channel), made)]))

    async def come_back(self) -> None:
        self.old.alive = False
        assert await self.come(self.new, again=True) == []  # who runs it goes on

    @property
    def place(self) -> str:
        letter = self.shard.machine.letters.row("run:0")
        return "" if letter is None else letter.place


@pytest.fixture
async def scene() -> Scene:
    return await Scene().begin()


async def test_what_is_acknowledged_while_it_comes_back_is_not_held_for_ever(scene: Scene) -> None:
    await scene.holdings.forget(list(scene.holdings.held.items()))
    assert scene.place == ""
    assert scene.new.acked == [7]
    assert not scene.holdings.held


async def test_what_is_given_back_while_it_comes_back_is_queued(scene: Scene) -> None:
    await scene.holdings.give_back(list(scene.holdings.held.items()), NONE)
    assert scene.place == "q"
    assert scene.new.acked == [7]  # under its new nonce it is another message
    assert not scene.holdings.held


async def test_what_could_not_be_given_back_runs_when_it_comes_again(scene: Scene) -> None:
    async def fails() -> None:
        raise Unavailable("nobody answers")

    scene.shard.before = fails
    with pytest.raises(Unavailable):
        await scene.holdings.give_back(list(scene.holdings.held.items()), NONE)
    assert scene.old.nacked == [7]
    scene.old.alive = False
    assert len(await scene.come(scene.new, again=True)) == 1


async def test_what_is_renewed_no_more_goes_back(scene: Scene) -> None:
    lease = timedelta(seconds=0.01)
    (receipt,) = scene.holdings.held
    scene.holdings.forsake(lease)  # who never renews holds it as long as the connection lives
    assert scene.holdings.extend([receipt, "another"]) == [True, False]
    scene.holdings.forsake(lease)
    assert receipt in scene.holdings.held
    await anyio.sleep(0.03)
    scene.holdings.forsake(lease)
    assert scene.old.nacked == [7]
    assert scene.holdings.extend([receipt]) == [False]
