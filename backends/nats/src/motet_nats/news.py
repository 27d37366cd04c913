"""What the server tells of records while somebody waits for their run: a value that was told need not be asked for.

To hear of a record and then to read it took a quarter of the time of a call and its answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from motet_nats.names import Names
from motet_nats.wire import read_kept

__all__ = ["News"]


RECENT = 16
JUST = 0.005
"""Seconds for which a run that was sent is not looked for at once: it takes its worker a good part of a millisecond."""
MOMENT = 0.001
"""Seconds until it is: mostly the server has told of it before, and need not be asked."""


class News:
    """Records of runs that somebody waits for, as they were stored; each is told once."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.told: dict[str, dict[str, bytes]] = {}
        self.reading: dict[str, list[asyncio.Future[bytes | None]]] = {}
        self.sent: deque[tuple[str, float]] = deque(maxlen=RECENT)
        self.sure: set[str] = set()
        """Runs of which the server tells us for certain: it has answered something that we asked after we listened."""

    def send(self, run: str, now: float) -> None:
        """Note that a run was sent alone, and may be waited for."""
        self.sent.append((run, now))

    def expect(self, run: str) -> None:
        """Keep what is told of a run, until `forget`."""
        self.told.setdefault(run, {})

    def forget(self, run: str) -> None:
        """Keep nothing more of it."""
        self.told.pop(run, None)
        self.sure.discard(run)

    def tell(self, run: str, name: str, data: bytes) -> None:
        """Take what the server has stored just now; a value in parts is to be read."""
        if run not in self.told:
            return
        self.sure.add(run)
        kept = read_kept(data)
        if kept.parts:
            return
        subject = f"{self.names.kept}.o.{run}.{name}"
        waiting = self.reading.pop(subject, ())
        for future in waiting:
            if not future.done():
                future.set_result(kept.value)
        if not waiting:
            self.told[run][subject] = kept.value

    async def sooner(self, subject: str, read: Callable[[], Coroutine[Any, Any, bytes | None]]) -> bytes | None:
        """Return the value of a record: what was told of it, or what is told before `read` has it, or what that has."""
        run = subject.split(".")[4]
        if run not in self.told:
            return await read()
        if (value := self.told[run].pop(subject, None)) is not None:
            return value
        loop = asyncio.get_running_loop()
        found: asyncio.Future[bytes | None] = loop.create_future()
        self.reading.setdefault(subject, []).append(found)
        reading = loop.create_task(self._after_a_moment(read) if self._just_sent(run, loop.time()) else read())
        reading.add_done_callback(partial(self._has_read, run, found))
        try:
            return await found
        finally:
            reading.cancel()
            self._leave(subject, found)

    def _just_sent(self, run: str, now: float) -> bool:
        return any(sent == run and now - at < JUST for sent, at in self.sent)

    async def _after_a_moment(self, read: Callable[[], Coroutine[Any, Any, bytes | None]]) -> bytes | None:
        """Read what nobody can have decided yet, in case that it was decided before the server heard us listen."""
        await asyncio.sleep(MOMENT)
        return await read()

    def _has_read(self, run: str, found: asyncio.Future[bytes | None], reading: asyncio.Task[bytes | None]) -> None:
        if reading.cancelled():
            return
        error = reading.exception()
        if error is None and run in self.told:
            self.sure.add(run)
        if found.done():
            return
        if error is None:
            found.set_result(reading.result())
        else:
            found.set_exception(error)

    def _leave(self, subject: str, found: asyncio.Future[bytes | None]) -> None:
        waiting = self.reading.get(subject)
        if waiting is not None and found in waiting:
            waiting.remove(found)
            if not waiting:
                del self.reading[subject]
