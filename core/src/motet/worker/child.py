"""What runs in a task's process: call after call, until the worker is gone. Everything comes and goes as msgpack."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import msgspec

from motet import codec
from motet.canvas.plan import Header, Leaf, Page, Plan, Profile
from motet.context import Context
from motet.errors import Fail, MotetError, Retry
from motet.message import Message, pack
from motet.options import seconds
from motet.outcome import Failure, Kind, Outcome, Replaced, Success
from motet.ports import Delivery
from motet.ports.ambient import RandomIds
from motet.registry import Registry, registries
from motet.retry import qualnames
from motet.task import Definition
from motet.worker.execute import Executor
from motet.worker.resolve import Job

__all__ = ["BEGUN", "ENDED", "PROGRESS", "Answer", "Line", "Request", "Trouble", "read_answer", "serve"]

BEGUN, PROGRESS, ENDED = b"b", b"p", b"e"
"""The first byte of what a process says: its modules are imported, how far it is, and what it came to."""


class Line(Protocol):
    """What the two processes talk through: a connection of `multiprocessing`, used for bytes only."""

    def send_bytes(self, buf: bytes, /) -> None:
        """Send a message."""
        ...

    def recv_bytes(self) -> bytes:
        """Wait for a message; `EOFError` says that the other end is closed."""
        ...

    def close(self) -> None:
        """Close this end."""
        ...


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One call. `module` is the worker's own knowledge of where the task is defined, never that of a message."""

    module: str
    place: str
    message: Message
    leaf: Leaf
    profile: Profile
    value: bytes | None
    depth: int
    tracebacks: bool


class Trouble(msgspec.Struct, frozen=True, array_like=True):
    """A failure: what policies choose by, and what `Retry` and `Fail` ask for."""

    kind: Kind
    type: str
    message: str
    traceback: str | None = None
    qualnames: tuple[str, ...] = ()
    asks: str = ""
    delay: float | None = None


class Answer(msgspec.Struct, frozen=True):
    """What a call came to: a value, a term in its place, or trouble; and the terms that it spawned, with their keys."""

    value: bytes | None = None
    replaced: Replaced | None = None
    trouble: Trouble | None = None
    spawns: tuple[tuple[str, bytes], ...] = ()


_request = msgspec.msgpack.Decoder(Request)
read_answer: Callable[[bytes], Answer] = msgspec.msgpack.Decoder(Answer).decode


def serve(connection: Line) -> None:
    """Answer requests until the other end is closed."""
    # A signal to the whole group is for the worker: it decides when its processes end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignored)
    threading.Thread(target=_die_with_the_worker, name="motet-watch", daemon=True).start()
    try:
        while True:
            request = _request.decode(connection.recv_bytes())
            connection.send_bytes(ENDED + pack(_answer(request, connection)))
    except (EOFError, BrokenPipeError):
        return


def _ignored(number: int, frame: FrameType | None) -> None:
    """Do nothing; unlike SIG_IGN it is not inherited by what the task may start."""


def _die_with_the_worker() -> None:
    worker = multiprocessing.parent_process()
    if worker is not None:
        worker.join()
        os._exit(1)


def _answer(request: Request, connection: Line) -> Answer:
    try:
        registry, definition = _find(request)
    except BaseException as error:  # noqa: BLE001 - a module may do anything when it is imported
        text = "".join(traceback.format_exception(error)) if request.tracebacks else None
        kind = Kind.UNKNOWN_TASK if isinstance(error, MotetError) else Kind.EXCEPTION
        return Answer(trouble=Trouble(kind, type(error).__qualname__, str(error), text, qualnames(error)))
    executor = Executor(registry, RandomIds(), tracebacks=request.tracebacks)
    job = _job(request, definition)
    said = threading.Lock()

    def note(done: int, total: int) -> None:
        with said:
            connection.send_bytes(PROGRESS + pack((done, total)))

    context = executor.context(job, note, lambda: False)
    connection.send_bytes(BEGUN)
    outcome = executor.run_sync(job, context)
    with said:
        return _written(executor, job, outcome, context)


def _find(request: Request) -> tuple[Registry, Definition]:
    """Import the task's module, and look the task up by its exact name."""
    name = request.profile.task
    importlib.import_module(request.module)
    found = [(each, each.definitions[name]) for each in registries() if name in each.definitions]
    if not found:
        raise MotetError(f"{request.module} was imported, and no task {name!r} with it: define it at the module's top")
    return next(((each, known) for each, known in found if known.place[1] == request.place), found[0])


def _job(request: Request, definition: Definition) -> Job:
    message, leaf = request.message, request.leaf
    plan = Plan(message.run)
    # As much of a plan as `replace` asks for.
    plan.pages[message.segment, 0] = Page(Header(1, 1, depth=request.depth), (request.profile,), (leaf,))
    delivery = Delivery("", "", request.profile.lane, b"")
    place = message.place
    return Job(delivery, message, plan, leaf, request.profile, place, definition, request.value, leaf.call)


def _written(executor: Executor, job: Job, outcome: Outcome, context: Context) -> Answer:
    try:
        spawns = tuple((each.key, codec.encode(each.term)) for each in context.spawned if not each.attach)
    except MotetError as error:
        outcome, spawns = executor.failed(job, error), ()
    match outcome:
        case Success(value=value):
            return Answer(value, spawns=spawns)
        case Replaced():
            return Answer(replaced=outcome, spawns=spawns)
        case Failure(error=info, exception=exception) if exception is not None:
            asks, delay = _asks(exception)
            kind, names = Kind(info.kind), qualnames(exception)
            return Answer(trouble=Trouble(kind, info.type, info.message, info.traceback, names, asks, delay))
        case _:
            raise TypeError(f"a call in a process cannot come to {outcome!r}")


def _asks(error: BaseException) -> tuple[str, float | None]:
    match error:
        case Retry(delay=delay):
            return "retry", None if delay is None else seconds(delay)
        case Fail():
            return "fail", None
        case _:
            return "", None
