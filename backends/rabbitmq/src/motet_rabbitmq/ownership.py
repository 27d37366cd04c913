"""Owning shards in a thread of its own, with a connection and a loop of its own: a busy program stalls nobody (H7).

A process that works asks for all shards, and keeps its share of them. One that only submits and reads becomes a guest
when it must ask a shard that nobody owns, and leaves as soon as somebody works, or it has nothing more to ask.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from motet.errors import MotetError
from motet_rabbitmq.errands import Errand, Mailbox
from motet_rabbitmq.link import Link
from motet_rabbitmq.location import Location
from motet_rabbitmq.names import Names
from motet_rabbitmq.owner import ShardOwner
from motet_rabbitmq.records import TooNew

__all__ = ["Ownership"]

log = logging.getLogger("motet.rabbitmq")
dice = random.SystemRandom()  # nobody else's: it rolls in a thread

LOOK = 1.0
"""Seconds between two looks at who else works."""
UNFAIR = 5
"""Looks at which this process had more than its share, before it leaves a shard: who comes for a moment gets none."""
IDLE = 5.0
"""Seconds without a question after which a guest leaves."""
LEAVE = 2.0
"""Seconds that a commit has for coming to its end when shards are left."""
STOP = 10.0


class Ownership:
    """The shards of one client. `begin` and `close` belong to the client's loop, the rest to the thread's."""

    def __init__(self, location: Location, names: Names, clock: Callable[[], float]) -> None:
        self.location = location
        self.names = names
        self.clock = clock
        self.worker = False
        self.needed = time.monotonic()
        self.refused = False
        """Whether records are of a later version than ours: this process is not ready (C8)."""
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._closed = False
        self._owners: dict[int, ShardOwner] = {}
        self._desk: Mailbox[Errand] | None = None
        self._unfair = 0
        self._leaving = False

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def shard(self, index: int) -> ShardOwner | None:
        """What we have of a shard, if it was asked for."""
        return self._owners.get(index) if self.running else None

    def ready(self, index: int) -> bool:
        """Say whether we own a shard at this moment, or seem to."""
        owner = self._owners.get(index)
        return owner is not None and owner.ready

    def hand(self, errand: Errand) -> bool:
        """Hand calls over; False when nobody takes them. Who takes them sends them back, whatever becomes of them."""
        desk = self._desk
        return desk is not None and desk.post(errand)

    def _pass_on(self, errands: list[Errand]) -> None:
        for errand in errands:
            owner = self._owners.get(errand.shard)
            if owner is None or not owner.take(errand):
                errand.untouched()

    def begin(self, *, worker: bool = False) -> None:
        """Ask for shards: as a worker for good, as a guest for as long as there is something to ask."""
        self.worker = self.worker or worker
        self.needed = time.monotonic()
        if not self.running and not self._closed:
            self._thread = threading.Thread(target=self._run, name="motet-shards", daemon=True)
            self._thread.start()

    async def close(self) -> None:
        """Leave all shards."""
        self._closed = True
        thread, loop, main = self._thread, self._loop, self._main
        if thread is None:
            return
        if loop is not None and main is not None:
            with suppress(RuntimeError):  # the loop has just ended by itself
                loop.call_soon_threadsafe(main.cancel)
        await asyncio.to_thread(thread.join, STOP)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve())
        except asyncio.CancelledError:
            return
        except Exception:
            log.exception("shards are left: their owner failed")

    async def _serve(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        self._leaving = False
        self._owners.clear()
        if self._closed:
            return
        link = Link(self.location, label="motet-shards")
        self._desk = desk = Mailbox(self._loop, self._pass_on)
        # Rotated, so that not the first process to come asks first for all of them.
        shards = list(self.names.all)
        start = dice.randrange(len(shards))
        tasks = [asyncio.create_task(self._own(link, index)) for index in shards[start:] + shards[:start]]
        tasks.append(asyncio.create_task(self._announce(link)))
        try:
            await self._look_around(link)
        finally:
            self._pass_on(desk.close())
            leaving = asyncio.create_task(self._leave(link, tasks))
            while not leaving.done():  # a client that closes while its guest leaves cancels what is ending already
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(leaving)

    async def _leave(self, link: Link, tasks: list[asyncio.Task[None]]) -> None:
        """Give up all shards, and hang up."""
        self._leaving = True
        for owner in self._owners.values():
            owner.leave()
        tasks[-1].cancel()
        await asyncio.wait(tasks, timeout=LEAVE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await link.close()

    async def _own(self, link: Link, index: int) -> None:
        """Own one shard, again and again: whatever goes wrong closes its channel, and others may come first."""
        pause = 0.05
        while not self._leaving:
            owner = ShardOwner(link, self.names, index, self.clock)
            self._owners[index] = owner
            began = time.monotonic()
            error: BaseException | None = None
            try:
                await owner.serve()
            except Exception as caught:  # noqa: BLE001 - whatever it is, the shard goes to somebody else
                error = caught
            self.refused = isinstance(error, TooNew)
            if isinstance(error, MotetError):
                log.debug("shard %d: %s", index, error)
            elif error is not None:
                log.error("shard %d is left: %s: %s", index, type(error).__name__, error, exc_info=error)
            pause = 0.05 if time.monotonic() - began > 10 else min(pause * 2, 5.0)
            await asyncio.sleep(pause * (0.5 + dice.random()))

    async def _announce(self, link: Link) -> None:
        """Be counted as a process that works."""
        while True:
            with suppress(MotetError):
                if self.worker:
                    channel = await link.channel()
                    await (await channel.consume(self.names.owners)).batch()
            await asyncio.sleep(0.2)

    async def _look_around(self, link: Link) -> None:
        """Give up what is more than our share; as a guest leave when nobody needs us."""
        while True:
            await asyncio.sleep(LOOK * (0.75 + dice.random() / 2))
            with suppress(MotetError):
                found = await link.topology.look(self.names.owners)
                workers = 0 if found is None else found.consumers
                if self.worker:
                    self._share(workers)
                elif workers or time.monotonic() - self.needed > IDLE:
                    return

    def _share(self, workers: int) -> None:
        """Leave one shard that is more than ours; it goes to whoever has waited longest."""
        most = math.ceil(len(self._owners) / max(1, workers))
        active = [owner for owner in self._owners.values() if owner.active]
        self._unfair = self._unfair + 1 if len(active) > most else 0
        if self._unfair >= UNFAIR:
            self._unfair = 0
            dice.choice(active).leave()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        made: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        return None
    return made
