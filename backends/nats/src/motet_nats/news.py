"""What the server tells of records while somebody waits for their run: a value that was told need not be asked for.

To hear of a record and then to read it took a quarter of the time of a call and its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from motet_nats.names import Names
from motet_nats.wire import Kept, read_kept

__all__ = ["News"]


class News:
    """Records of runs that somebody waits for, as they were stored; each is told once."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.told: dict[str, dict[str, bytes]] = {}
        self.reading: dict[str, list[asyncio.Future[bytes]]] = {}
        self.sure: set[str] = set()
        """Runs of which the server tells us for certain: it has answered something that we asked after we listened."""

    def expect(self, run: str) -> None:
        """Keep what is told of a run, until `forget`."""
        self.told.setdefault(run, {})

    def forget(self, run: str) -> None:
        """Keep nothing more of it."""
        self.told.pop(run, None)
        self.sure.discard(run)

    def tell(self, run: str, name: str, data: bytes) -> None:
        """Take what the server has stored."""
        subject = f"{self.names.kept}.o.{run}.{name}"
        if run in self.told:
            self.sure.add(run)
        waiting = self.reading.pop(subject, ())
        for future in waiting:
            if not future.done():
                future.set_result(data)
        if run in self.told and not waiting:
            self.told[run][subject] = data

    async def sooner(self, subject: str, read: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
        """Return the value of a record: what was told of it, or what is told before `read` has it, or what that has."""
        run = subject.split(".")[4]
        if run not in self.told:
            return await read()
        if (data := self.told[run].pop(subject, None)) is not None and (kept := whole(data)) is not None:
            return kept.value
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[bytes] = loop.create_future()
        self.reading.setdefault(subject, []).append(heard)
        reading = asyncio.ensure_future(read())
        try:
            await asyncio.wait((heard, reading), return_when=asyncio.FIRST_COMPLETED)
            if heard.done() and (kept := whole(heard.result())) is not None:
                return kept.value
            value = await reading
            if run in self.told:
                self.sure.add(run)
            return value
        finally:
            reading.cancel()
            self._leave(subject, heard)

    def _leave(self, subject: str, heard: asyncio.Future[bytes]) -> None:
        waiting = self.reading.get(subject)
        if waiting is not None and heard in waiting:
            waiting.remove(heard)
            if not waiting:
                del self.reading[subject]


def whole(data: bytes) -> Kept | None:
    """Read a record, unless it has parts; it was stored just now, and is not too old."""
    kept = read_kept(data)
    return None if kept.parts else kept
