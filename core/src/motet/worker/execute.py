"""Running one job to its outcome. Nothing that a task does gets past this module, but cancellation."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import Context as Variables
from datetime import UTC, datetime
from types import coroutine
from typing import Any, TypeVar

import anyio

from motet.canvas.compile import Origin, compile_term
from motet.canvas.terms import Term, group
from motet.context import Context, Replacement, running
from motet.errors import DecodeError, Fail, NotSerializable, Retry, StateLost, TooLarge, UsageError
from motet.identity import derive
from motet.outcome import Failure, Kind, Outcome, Replaced, Success
from motet.ports import Ids
from motet.registry import Registry
from motet.worker.resolve import Job, error_info

__all__ = ["Executor", "within"]

T = TypeVar("T")

VALUE_LIMIT = 64 * 1024 * 1024
MAX_SPLICES = 1000


@coroutine
def within(variables: Variables, steps: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Drive a coroutine with every step inside these context variables, so that none leaks into the next delivery."""
    step, value = steps.send, None
    while True:
        try:
            waited = variables.run(step, value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        try:
            step, value = steps.send, (yield waited)
        except BaseException as error:  # noqa: BLE001 - handed on, into the coroutine
            step, value = steps.throw, error


class Executor:
    """Calls tasks and turns whatever they do into outcomes."""

    def __init__(self, registry: Registry, ids: Ids, *, tracebacks: bool) -> None:
        self.registry = registry
        self.ids = ids
        self.tracebacks = tracebacks

    async def run_async(self, job: Job, context: Context) -> Outcome:
        """Run a task made of a coroutine function."""
        definition = job.definition
        assert definition is not None
        try:
            if job.leaf.form:
                calls = definition.binding.decode_many(job.call, star=job.leaf.form == 2)
                value: Any = [await definition.fn(*args, **kwargs) for args, kwargs in self._each(calls, job, context)]
            else:
                args, kwargs = self._arguments(job, context)
                value = await definition.fn(*args, **kwargs)
            return self.finish(job, value, context)
        except BaseException as error:  # noqa: BLE001 - a task may raise anything, CancelledError included
            passing = not_the_tasks(error)
            if passing is not None:
                raise passing from None
            return self.failed(job, error)

    def run_sync(self, job: Job, context: Context) -> Outcome:
        """Run a task made of a plain function; called in a thread, and raises nothing."""
        definition = job.definition
        assert definition is not None
        running.set(context)
        try:
            if job.leaf.form:
                calls = definition.binding.decode_many(job.call, star=job.leaf.form == 2)
                value: Any = [definition.fn(*args, **kwargs) for args, kwargs in self._each(calls, job, context)]
            else:
                args, kwargs = self._arguments(job, context)
                value = definition.fn(*args, **kwargs)
            return self.finish(job, value, context)
        except BaseException as error:  # noqa: BLE001 - also SystemExit: a thread must answer
            return self.failed(job, error)

    def _arguments(self, job: Job, context: Context) -> tuple[list[Any], dict[str, Any]]:
        definition = job.definition
        assert definition is not None
        binding = definition.binding
        args, kwargs = binding.decode_call(job.call, job.value, job.leaf.feed)
        if injected := binding.injected:
            binding.inject(args, kwargs, dict.fromkeys(injected, context))
        return args, kwargs

    def _each(self, calls: Any, job: Job, context: Context) -> Any:
        assert job.definition is not None
        binding = job.definition.binding
        values = dict.fromkeys(binding.injected, context)
        for args, kwargs in calls:
            if values:
                binding.inject(args, kwargs, values)
            yield args, kwargs

    def finish(self, job: Job, value: Any, context: Context) -> Outcome:
        """Turn what a task returned into its outcome.

        Raises:
            NotSerializable, TooLarge: The value cannot be kept.
        """
        assert job.definition is not None
        attached = [spawn for spawn in context.spawned if spawn.attach] if context.spawned else []
        if isinstance(value, Replacement):
            if attached:
                raise UsageError("a task that is replaced cannot also wait for attached children: put them in the term")
            return self.replaced(job, value.term, None)
        encoded = job.definition.binding.encode_result(value, many=job.leaf.form > 0)
        if len(encoded) > VALUE_LIMIT:
            raise TooLarge(f"the result of {job.profile.task}", len(encoded), VALUE_LIMIT)
        if attached:
            return self.replaced(job, group(spawn.term for spawn in attached), encoded)
        return Success(encoded)

    def replaced(self, job: Job, term: Term[Any, Any], kept: bytes | None) -> Replaced:
        """Compile a term that takes the task's place. Its segment is new each time: the record decides which runs."""
        run, place = job.message.run, job.place
        depth = job.plan.header(place.segment).depth + 1
        if depth > MAX_SPLICES:
            raise UsageError(f"replaced {MAX_SPLICES} times over: this looks like a loop")
        segment = derive(run, str(place), self.ids.new())[:10]
        origin = Origin(run=run, segment=segment, parent=place, kept=kept, depth=depth)
        compiled = compile_term(term, origin, self.registry, ttl=job.profile.ttl)
        pages = [compiled.first, *compiled.rest]
        values = tuple(value for page in pages for value in page.values)
        return Replaced(segment, tuple(page.body for page in pages), values, kept)

    def failed(self, job: Job, error: BaseException) -> Failure:
        """Describe what a task raised."""
        kind = Kind.EXCEPTION
        match error:
            case NotSerializable():
                kind = Kind.NOT_SERIALIZABLE
            case TooLarge():
                kind = Kind.RESULT_TOO_LARGE
            case DecodeError():
                kind = Kind.MALFORMED
            case StateLost():
                kind = Kind.STATE_LOST
            case _:
                pass
        text = "".join(traceback.format_exception(error)) if self.tracebacks else None
        reason = error.reason if isinstance(error, Retry | Fail) else str(error)
        return Failure(error_info(job, kind, type(error).__qualname__, reason, text), error)

    def context(self, job: Job, note: Callable[[int, int], None], stopping: Callable[[], bool]) -> Context:
        """What the task may know of its execution."""
        profile, message = job.profile, job.message
        deadline = None if profile.expires is None else datetime.fromtimestamp(profile.expires, UTC)
        headers = dict(profile.headers) if profile.headers else {}
        place = str(job.place) if message.segment else str(message.node)
        return Context(place, message.run, message.attempt, profile.task, deadline, headers, [], note, stopping)


def not_the_tasks(error: BaseException) -> BaseException | None:
    """Return what must pass: a cancel that is really in effect, or the end of the program. The rest is a failure."""
    if isinstance(error, Exception):
        return None
    if isinstance(error, KeyboardInterrupt | GeneratorExit):
        return error
    if anyio.current_effective_deadline() != -math.inf:
        return None
    cancelled = anyio.get_cancelled_exc_class()
    return next((each for each in leaves(error) if isinstance(each, cancelled)), None)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, or those that a group of them holds."""
    held: tuple[BaseException, ...] | None = getattr(error, "exceptions", None)
    if held is None:
        yield error
        return
    for each in held:
        yield from leaves(each)
