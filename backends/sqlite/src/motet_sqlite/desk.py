"""Where coroutines meet the writer's thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio

from motet.errors import UsageError
from motet.ports import Settings
from motet.worker.wakeup import loop_waker
from motet_sqlite.database import Database
from motet_sqlite.location import Location
from motet_sqlite.request import Ask, Receive, Step, Withdraw
from motet_sqlite.signals import SqliteSignals
from motet_sqlite.writer import Writer

__all__ = ["Desk"]


class Desk:
    """Where coroutines hand their requests to the writer's thread: 55 us there and back, once per batch."""

    def __init__(self, location: Location, settings: Settings) -> None:
        self.signals = SqliteSignals(self, settings.clock)
        self._settings = settings
        self._writer = Writer(location, settings, self._tell, self.signals.has)
        self._pid = os.getpid()
        self._closed = False
        self._post = loop_waker()
        self._ended = anyio.Event()

    async def start(self) -> None:
        """Start the thread, and wait until the database is open."""
        opened = Ask()

        def serve() -> None:
            self._writer.serve(opened)
            self._call(self._ended.set)

        # A daemon, so that a program which forgets to close can end; WAL survives it.
        threading.Thread(target=serve, name="motet-sqlite", daemon=True).start()
        with anyio.CancelScope(shield=True):
            await opened.event.wait()
        if opened.error is not None:
            raise opened.error

    async def look(self, look: Callable[[Database], Any]) -> Any:
        """Read."""
        return await self._ask(Ask(look=look))

    async def do(self, step: Step) -> Any:
        """Do one step, and return its answer."""
        return (await self._ask(Ask([step])))[0]

    async def do_all(self, steps: Sequence[Step]) -> list[Any]:
        """Do steps that succeed or fail each by itself; the first error is raised after all were tried."""
        answers: list[Any] = await self._ask(Ask(steps))
        return answers

    async def listen(self) -> None:
        """Be woken by other processes' decisions from now on."""
        await self._ask(Ask(look=lambda _: self._writer.listen("r")))

    def now(self) -> float:
        """Return the wall time; from any thread."""
        return self._settings.clock.now().timestamp()

    async def receive(self, receiver: Receive) -> Any:
        """Wait for messages; what a cancelled receiver was given goes back."""
        try:
            return await self._ask(receiver)
        except BaseException:
            receiver.withdrawn = True
            if not self._closed and not self.forked():
                self._writer.submit(Withdraw(receiver))
            raise

    async def _ask(self, request: Ask) -> Any:
        self.check()
        self._writer.submit(request)
        if self._writer.broken is not None:
            raise self._writer.broken
        await request.event.wait()
        if request.error is not None:
            raise request.error
        return request.answer

    def check(self) -> None:
        """Refuse what cannot work: threads and SQLite connections do not survive a fork.

        Raises:
            UsageError: The backend is closed, or was opened by the parent of this process.
        """
        if self.forked():
            raise UsageError("this SQLite backend was opened before a fork: open it again in the child")
        if self._closed:
            raise UsageError("this SQLite backend is closed: use it inside its `async with`")

    def forked(self) -> bool:
        """Say whether another process opened this."""
        return self._pid != os.getpid()

    async def close(self) -> None:
        """End the thread, after what has been asked."""
        self._closed = True
        self._writer.stop()
        await self._ended.wait()

    def _tell(self, answered: list[Ask], woken: list[str]) -> None:
        self._call(lambda: self._deliver(answered, woken))

    def _call(self, function: Callable[[], None]) -> None:
        # The loop is gone when a program ended without closing.
        with suppress(RuntimeError):
            self._post(function)

    def _deliver(self, answered: list[Ask], woken: list[str]) -> None:
        for request in answered:
            request.event.set()
        for run in woken:
            self.signals.wake(run)
