"""Motet from synchronous code: one background loop, opened on first use and closed at exit."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Unpack

import anyio
import anyio.lowlevel
import attrs
import msgspec
import sniffio
from anyio.from_thread import BlockingPortal
from typing_extensions import TypeVar

from motet.canvas.launching import Submission
from motet.canvas.plan import Profile
from motet.canvas.terms import Term
from motet.errors import TaskCancelled, TaskFailed, UsageError
from motet.handle import Handle, Status
from motet.memory import MemoryBackend
from motet.memory.clock import JumpingClock
from motet.memory.world import World
from motet.options import CONTROL
from motet.registry import Registry
from motet.task import Definition
from motet.worker.loop import Options, Worker

if TYPE_CHECKING:
    from motet.app import Motet

__all__ = ["Applied", "SyncApp", "SyncHandle", "apply"]

T = TypeVar("T", default=Any)


class SyncHandle(Generic[T]):
    """A run, as synchronous code sees it; everything else is on `.handle`, inside the loop."""

    def __init__(self, app: SyncApp, handle: Handle[T]) -> None:
        self.app = app
        self.handle = handle
        self.id: str = handle.id

    def result(self, timeout: float | timedelta | None = None) -> T:
        """Wait for the value, as `Handle.result`."""
        value: T = self.app.call(self.handle.result, timeout)
        return value

    def status(self) -> Status:
        """Take a snapshot, as `Handle.status`."""
        status: Status = self.app.call(self.handle.status)
        return status

    def cancel(self, reason: str = "") -> None:
        """Ask for the end, as `Handle.cancel`."""
        self.app.call(self.handle.cancel, reason)


class SyncApp:
    """An app's synchronous door. Safe to use from several threads; a forked process opens its own."""

    def __init__(self, app: Motet) -> None:
        self.app = app
        self.lock: threading.Lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.portal: BlockingPortal | None = None
        self.pid: int = 0

    def submit(
        self, term: Term[Any, T], args: tuple[Any, ...] = (), kwargs: Any = None, **options: Unpack[Submission]
    ) -> SyncHandle[T]:
        """Submit a term, as `Term.submit`."""
        handle: Handle[T] = self.call(lambda: term.submit(args, kwargs, **options))
        return SyncHandle(self, handle)

    def handle(self, id: str) -> SyncHandle[Any]:
        """Return a handle of a run by its id."""
        self.open()
        return SyncHandle(self, self.app.handle(id))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run an async function in the background loop, and wait for it.

        Raises:
            UsageError: This thread runs an event loop: waiting here would stop it.
        """
        try:
            sniffio.current_async_library()
        except sniffio.AsyncLibraryNotFoundError:
            return self.open().call(function, *args)
        raise UsageError("app.sync would stop the event loop of this thread: use `await` here")

    def open(self) -> BlockingPortal:
        """Start the loop and open the app in it, once per process.

        What a forked process has of its parent's is forgotten, not closed: the thread that would answer is not there.
        """
        with self.lock:
            if self.portal is None or self.pid != os.getpid():
                self.pid, self.portal = os.getpid(), None
                opened: Future[BlockingPortal] = Future()
                self.thread = threading.Thread(target=anyio.run, args=(self._serve, opened), name="motet", daemon=True)
                self.thread.start()
                self.portal = opened.result()
                atexit.register(self.close)
            return self.portal

    async def _serve(self, opened: Future[BlockingPortal]) -> None:
        """Keep the app open until the portal is stopped."""
        try:
            async with self.app, BlockingPortal() as portal:
                opened.set_result(portal)
                await portal.sleep_until_stopped()
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    def close(self) -> None:
        """Close the app and end the loop."""
        with self.lock:
            if self.portal is not None and self.thread is not None and self.pid == os.getpid():
                portal, self.portal = self.portal, None
                portal.call(portal.stop)
                self.thread.join()


@attrs.frozen
class Applied:
    """A term that was run here and now."""

    id: str
    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        """Return the value.

        Raises:
            TaskFailed: It failed.
        """
        if self.error is not None:
            raise self.error
        return self.value

    @property
    def successful(self) -> bool:
        """Whether it ended well."""
        return self.error is None


def apply(app: Motet, term: Term[Any, Any]) -> Applied:
    """Run a term with a worker of its own on a private memory backend, until nothing is left to do.

    Delays and retries pass at once: the clock jumps when everybody waits.
    """
    outcome: list[Applied] = []

    def run() -> None:
        outcome.append(anyio.run(_applied, app, term))

    try:
        sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        run()
    else:
        thread = threading.Thread(target=run, name="motet-apply")
        thread.start()
        thread.join()
    if not outcome:
        raise UsageError("the term could not be applied; the error is printed above")
    return outcome[0]


ENDLESS = timedelta(days=36_500)
"""The lease of an eager run: there is no other worker, and none that could die."""


class OneQueue(Registry):
    """The tasks of an app, all in the queue that the one worker serves."""

    def resolve(self, definition: Definition, options: Mapping[str, Any], policy: Any) -> Profile:
        return msgspec.structs.replace(super().resolve(definition, options, policy), queue="default")


async def _applied(app: Motet, term: Term[Any, Any]) -> Applied:
    from motet.app import Motet

    clock = JumpingClock()
    inner = Motet("memory://", stands_for=app, result_ttl=app.result_ttl, clock=clock, ids=app.ids, rng=app.rng)
    inner.registry = OneQueue(clock, app.result_ttl)
    inner.registry.definitions = app.registry.definitions
    inner.registry.only_queue = "default"
    backend = MemoryBackend(World(clock, ENDLESS))
    inner.attach(backend)
    run, _ = await inner.submitter.submit(term, {})
    handle = inner.handle_of(run, term)
    options = Options(lease_thread=False, tracebacks=True)
    worker = Worker(backend, inner.registry, options, clock=clock, ids=app.ids, rng=app.rng, app=inner)
    clock.busy = lambda: worker.active > 0
    applied = Applied(run)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.serve)
        try:
            applied = Applied(run, await handle.result())
        except (TaskFailed, TaskCancelled) as error:
            applied = Applied(run, error=error)
        await _callbacks_done(backend)
        group.cancel_scope.cancel()
    return applied


async def _callbacks_done(backend: MemoryBackend) -> None:
    """Let callbacks and spawned runs end too; what is parked on the internal lane is only the sweeping."""
    while any(
        info.ready or info.held or (info.parked and info.queue != CONTROL.queue)
        for info in await backend.transport.queues()
    ):
        await anyio.lowlevel.checkpoint()
