"""The app: tasks, a backend and everything in between, wired once. The only composition root."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Token
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
import msgspec

from motet.backends import masked, open_backend
from motet.canvas.launching import Launcher, Submission, current
from motet.canvas.terms import Chain, Group, Recovered, Signature, Term
from motet.codec import decode
from motet.engine.client import Client
from motet.engine.plans import Plans
from motet.engine.submit import Bulk, Submitter
from motet.engine.values import Values
from motet.errors import UsageError
from motet.handle import GroupHandle, Handle
from motet.identity import check_id
from motet.options import seconds
from motet.outcome import ErrorInfo
from motet.ports import Backend, Clock, Ids, Rng, Settings
from motet.ports.ambient import RandomIds, SystemClock, SystemRng
from motet.registry import Registry
from motet.task import Definition, TaskDecorator
from motet.worker.loop import Options, Worker

if TYPE_CHECKING:
    from motet.portal import Applied, SyncApp

__all__ = ["Motet"]

T = TypeVar("T")

log: logging.Logger = logging.getLogger("motet.app")


class Motet:
    """An app: a registry of tasks and the backend that carries them.

    `url` names the backend. Durations are seconds or `timedelta`. `include` lists modules that define tasks; a worker
    or the CLI imports them when it starts. `stands_for` is for eager runs. The variables `MOTET_URL`,
    `MOTET_NAMESPACE`, `MOTET_RESULT_TTL`, `MOTET_LEASE` and `MOTET_PUBLISH_TIMEOUT` win over what the code says.
    """

    def __init__(
        self,
        url: str = "memory://",
        *,
        namespace: str = "motet",
        include: Iterable[str] = (),
        result_ttl: float | timedelta = 3600,
        lease: float | timedelta = 15,
        publish_timeout: float | timedelta = 5,
        state: Any = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        rng: Rng | None = None,
        stands_for: Motet | None = None,
    ) -> None:
        said: Mapping[str, str] = os.environ if stands_for is None else {}
        self.url: str = said.get("MOTET_URL") or url
        self.original = stands_for
        self.namespace: str = check_id(said.get("MOTET_NAMESPACE") or namespace)
        self.include: tuple[str, ...] = tuple(include)
        self.state = state
        self.clock: Clock = clock or SystemClock()
        self.ids: Ids = ids or RandomIds()
        self.rng: Rng = rng or SystemRng()
        self.lease: timedelta = timedelta(seconds=_seconds(said, "lease", lease))
        self.publish_timeout: timedelta = timedelta(seconds=_seconds(said, "publish_timeout", publish_timeout))
        self.result_ttl: float = _seconds(said, "result_ttl", result_ttl)
        self.registry: Registry = Registry(self.clock, self.result_ttl)
        self.task: TaskDecorator = TaskDecorator(self)
        self._sync: SyncApp | None = None
        self._lock = threading.Lock()
        self._depth = 0
        self._stack: AsyncExitStack | None = None
        self._backend: Backend | None = None
        self._client: Client | None = None
        self._submitter: Submitter | None = None
        self._token: Token[Launcher | None] | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"<Motet {masked(self.url)}>"

    @property
    def sync(self) -> SyncApp:
        """The app's door for synchronous code."""
        from motet.portal import SyncApp

        with self._lock:
            if self._sync is None:
                self._sync = SyncApp(self)
            return self._sync

    def register(self, definition: Definition) -> None:
        """Add a task. `@app.task` calls it."""
        self.registry.register(definition)

    def import_tasks(self) -> None:
        """Import the modules of `include`, and resolve every task's annotations.

        Raises:
            UsageError: A module does not import, or an annotation means nothing at run time.
        """
        for name in self.include:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                raise UsageError(f"include names {name!r}, which does not import: {error}") from error
        for definition in list(self.registry.definitions.values()):
            definition.binding.resolve()

    # Open and close.

    async def __aenter__(self) -> Self:
        if self._depth and self._pid != os.getpid():
            # A forked child has its parent's sockets and threads only by name: start over.
            self._depth, self._stack = 0, None
        self._depth += 1
        if self._depth > 1:
            return self
        self._pid = os.getpid()
        stack = AsyncExitStack()
        settings = Settings(namespace=self.namespace, lease=self.lease, timeout=self.publish_timeout, clock=self.clock)
        try:
            backend = await stack.enter_async_context(open_backend(self.url, settings))
        except BaseException:
            self._depth -= 1
            raise
        self.attach(backend)
        self._stack = stack
        self._token = current.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth or self._stack is None:
            return
        stack, self._stack = self._stack, None
        self._backend = self._client = self._submitter = None
        if current.get() is self:
            current.set(None)
        await stack.__aexit__(kind, error, trace)

    def attach(self, backend: Backend) -> None:
        """Use a backend that is open already; what a worker or a test does that has one."""
        plans = Plans(backend.store)
        self._backend = backend
        self._client = Client(backend, plans, Values(backend.store, plans), self.clock)
        marker = self.lease.total_seconds() * 3
        self._submitter = Submitter(
            backend, self.registry, self.clock, self.ids, self.publish_timeout, self.result_ttl, marker
        )

    @property
    def backend(self) -> Backend:
        """The open backend.

        Raises:
            UsageError: The app is not open.
        """
        return self._opened(self._backend)

    @staticmethod
    def _opened(part: T | None) -> T:
        if part is None:
            raise UsageError("the app is not open: `async with app:` around this, or app.sync in synchronous code")
        return part

    @property
    def client(self) -> Client:
        """What handles work with."""
        return self._opened(self._client)

    @property
    def submitter(self) -> Submitter:
        """What sends terms."""
        return self._opened(self._submitter)

    # Submit and wait.

    async def launch(self, term: Term[Any, Any], options: Submission) -> Handle[Any]:
        """Submit a term; `term.submit` calls it."""
        self._own(term)
        run, _ = await self.submitter.submit(term, options)
        return self.handle_of(run, term)

    async def submit_many(self, terms: Iterable[Term[Any, Any]]) -> list[Handle[Any]]:
        """Submit many terms, each a run of its own, in as few round trips as the backend allows."""
        bulk, client, handles = Bulk(self.submitter), self.client, list[Handle[Any]]()
        calls: dict[str, Callable[[bytes], Any]] = {}  # what reads the value of a task: in bulk they are a few
        for term in terms:
            self._own(term)
            run = bulk.add(term)
            if type(term) is Signature and term.form == "call":
                read = calls.get(term.task) or calls.setdefault(term.task, self.reader(term))
                handles.append(Handle(client, run, read, known=True))
            else:
                handles.append(self.handle_of(run, term))
        await bulk.send()
        return handles

    def stands_for(self, other: Launcher) -> bool:
        """Whether terms of another app are submitted here: an eager run stands for the app that it was asked of."""
        return other is self or other is self.original

    def _own(self, term: Term[Any, Any]) -> None:
        home = term.home
        if home is not None and not self.stands_for(home):
            raise UsageError(f"this term's tasks belong to {home!r}, not to {self!r}")

    def handle_of(self, run: str, term: Term[Any, Any]) -> Handle[Any]:
        """Return the handle of a run that this process has submitted."""
        read = self.reader(term)
        if isinstance(term, Group):
            return GroupHandle(self.client, run, read, known=True)
        return Handle(self.client, run, read, known=True)

    def handle(self, id: str) -> Handle[Any]:
        """Return a handle of a run by its id, from any process.

        Raises:
            UsageError: That is no id.
        """
        return GroupHandle(self.client, check_id(id), decode)

    def reader(self, term: Term[Any, Any]) -> Callable[[bytes], Any]:
        """Return what reads a term's value, by the return annotations of its tasks."""
        match term:
            case Signature(task=task) if task in self.registry.definitions:
                return self.registry.definitions[task].binding.result_decoder(many=term.form != "call")
            case Chain(steps=steps) if steps:
                return self.reader(steps[-1])
            case Group(members=members):
                return group_reader(members, self.reader)
            case Recovered():
                return decode
            case _:
                return decode

    def apply(self, term: Term[Any, Any]) -> Applied:
        """Run a term here and now, on a private memory backend; `term.apply` calls it."""
        from motet.portal import apply

        return apply(self, term)

    # Work.

    @asynccontextmanager
    async def worker(self, **options: Any) -> AsyncGenerator[Worker]:
        """Run a worker in this process for as long as the context is open.

        Options are those of `motet.worker.loop.Options`: concurrency, threads, queues, sizes, burst, grace.
        """
        async with self, anyio.create_task_group() as group:
            worker = self.make_worker(**options)
            group.start_soon(worker.serve)
            try:
                yield worker
            finally:
                worker.stop()

    def make_worker(self, **options: Any) -> Worker:
        """Make a worker on the open backend; `await worker.serve()` runs it."""
        self.import_tasks()
        chosen = Options(lease=self.lease, **options)
        return Worker(self.backend, self.registry, chosen, clock=self.clock, ids=self.ids, rng=self.rng, app=self)


def _seconds(said: Mapping[str, str], name: str, given: float | timedelta) -> float:
    """Read a duration that a variable may give."""
    variable = f"MOTET_{name.upper()}"
    text = said.get(variable)
    try:
        return seconds(float(text) if text else given, name)
    except ValueError:
        raise UsageError(f"{variable}={text!r}: write a number of seconds") from None


TAG = b"\xa5motet\xa5error"


def group_reader(
    members: Sequence[Term[Any, Any]], reader: Callable[[Term[Any, Any]], Callable[[bytes], Any]]
) -> Callable[[bytes], Any]:
    """Return what reads a group's list, each member by its own type."""
    raws = msgspec.msgpack.Decoder(list[msgspec.Raw])
    error = msgspec.msgpack.Decoder(ErrorInfo)

    def read(raw: bytes) -> list[Any]:
        values: list[Any] = []
        for member, each in zip(members, raws.decode(raw), strict=True):
            # With `collect` a member that failed stands in the list as its error, marked by its tag.
            failed = bytes(each)[1:].startswith(TAG)
            values.append(error.decode(each) if failed else reader(member)(bytes(each)))
        return values

    return read
