"""Waiting for a token in any of some lists: one blocking pop stays under way, and outlives whoever waits for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from motet.errors import MotetError
from motet_redis.client import Client
from motet_redis.errors import BROKEN
from motet_redis.pipe import Pipe
from motet_redis.scripts import Script

__all__ = ["Bells"]

TRANSPORT = Script.of("messages", "repeats", "transport")
ASK = 5
"""Seconds after which the server answers for lack of a token: a connection that is silent for longer is dead."""
IDLE = 8
"""Bells that are kept for those who wait for the same lanes again."""


class Bell:
    """One connection on which a blocking pop is under way."""

    def __init__(self, client: Client, lanes: tuple[str, ...]) -> None:
        self.client = client
        self.lanes = lanes
        self.keys: tuple[str, ...] = tuple(f"{client.tag}:k:{lane}" for lane in lanes)
        self.pipe: Pipe | None = None
        self.answer: asyncio.Future[Any] | None = None
        self.resting: bool = False
        self.tasks: set[asyncio.Task[None]] = set()

    async def wait(self, seconds: float) -> None:
        """Return when there is a token, at the latest after so many seconds."""
        if self.answer is None:
            try:
                if self.pipe is None or self.pipe.broken is not None:
                    await self.close()
                    self.pipe = await self.client.own()
                self.answer = self.pipe.send("BLPOP", *self.keys, ASK)
            except (RedisError, *BROKEN):
                # Whoever waits asks the server next, and hears there what is wrong.
                await asyncio.sleep(min(seconds, 0.1))
                return
        await asyncio.wait((self.answer,), timeout=seconds)
        if self.answer.done():
            failed, self.answer = self.answer.exception(), None
            if failed is not None:
                await self.close()
                await asyncio.sleep(min(seconds, 0.05))

    def rest(self) -> None:
        """Nobody waits any more: a token that still comes is for others."""
        self.resting = True
        if self.answer is not None:
            self.answer.add_done_callback(self._pass_on)

    def _pass_on(self, answer: asyncio.Future[Any]) -> None:
        if answer is not self.answer or not self.resting:
            return  # somebody waits again, and finds it
        self.answer = None
        if answer.cancelled() or answer.exception() is not None or answer.result() is None or self.client.closed:
            return
        task = asyncio.get_running_loop().create_task(self._give_back())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _give_back(self) -> None:
        with suppress(MotetError):
            await self.client.call(TRANSPORT, "wake", *self.lanes)

    def busy(self) -> None:
        """Somebody waits again; that nobody did may be about to be noticed."""
        self.resting = False
        if self.answer is not None:
            self.answer.remove_done_callback(self._pass_on)

    async def close(self) -> None:
        """Hang up."""
        if self.pipe is not None:
            pipe, self.pipe = self.pipe, None
            await self.client.leave(pipe)


class Bells:
    """The bells of a client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.idle: list[Bell] = []

    async def wait(self, lanes: tuple[str, ...], seconds: float) -> None:
        """Return when one of the lanes may have something, at the latest after so many seconds."""
        bell = next((each for each in self.idle if each.lanes == lanes), None)
        if bell is None:
            bell = Bell(self.client, lanes)
        else:
            self.idle.remove(bell)
            bell.busy()
        try:
            await bell.wait(seconds)
        finally:
            bell.rest()
            self.idle.append(bell)
        while len(self.idle) > IDLE:
            await self.idle.pop(0).close()
