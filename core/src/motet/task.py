"""Task functions: what `@app.task` returns. A call stays a plain call; `.s`, `.si` and `.delay` are typed after it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from functools import update_wrapper
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    get_origin,
    overload,
)

import attrs
from typing_extensions import TypeVar

from motet.binding import Binding
from motet.canvas.launching import Launcher
from motet.canvas.terms import Group, Signature, group
from motet.context import Context, injected
from motet.errors import UsageError
from motet.options import Priority, Size, check_options
from motet.retry import NoRetry, RetryPolicy

if TYPE_CHECKING:
    from motet.handle import Handle

__all__ = ["AsyncTask", "Definition", "Executor", "SyncTask", "TaskDecorator", "TaskFunction", "task_name"]

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T", covariant=True)
R = TypeVar("R")
U = TypeVar("U")
X = TypeVar("X")

Executor = Literal["thread", "process"]


@attrs.frozen(kw_only=True, eq=False)
class Definition:
    """All that the registry knows of a task: how to call it, and its defaults."""

    name: str
    fn: Callable[..., Any]
    binding: Binding
    is_async: bool
    executor: Executor = "thread"
    retry_policy: RetryPolicy = attrs.field(factory=NoRetry)
    options: dict[str, Any] = attrs.field(factory=dict[str, Any])
    place: tuple[str, str] = ("", "")
    injected: tuple[str, ...] = ()

    def check_plain_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse a call by hand that leaves an injected parameter out.

        Raises:
            TypeError: It needs one; only a worker fills it.
        """
        if self.injected:
            given = inspect.signature(self.fn).bind_partial(*args, **kwargs).arguments
            if missing := [name for name in self.injected if name not in given]:
                raise TypeError(f"{self.fn.__name__}() needs {', '.join(missing)}: pass it; only a worker injects it")


def is_injected(annotation: Any) -> bool:
    """Say whether a parameter with this annotation is filled by the worker."""
    return annotation is Context or (get_origin(annotation) is Annotated and Context in annotation.__args__)


class TaskFunction(Generic[P, T]):
    """A task, seen from the code that calls it."""

    def __init__(self, definition: Definition, app: Launcher) -> None:
        self.definition = definition
        self.app = app
        wrapper: Any = self
        update_wrapper(wrapper, definition.fn)

    @property
    def name(self) -> str:
        """The name that messages carry."""
        return self.definition.name

    @property
    def fn(self) -> Callable[..., Any]:
        """The function itself."""
        return self.definition.fn

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[object, T]:
        """Make a signature that ignores its input."""
        return self._signature(args, kwargs, immutable=True)

    def partial(self, *args: Any, **kwargs: Any) -> Signature[Any, T]:
        """Make a signature without type checks: for `.into()`, and for several missing arguments."""
        return self._signature(args, kwargs)

    async def delay(self, *args: P.args, **kwargs: P.kwargs) -> Handle[T]:
        """Submit one call; every argument is the task's. Options: `.s(...).set(...)` or `.s(...).submit(...)`."""
        return await self._signature(args, kwargs).submit()

    def map(self: TaskFunction[Concatenate[X, Q], R], xs: Iterable[X]) -> Signature[object, list[R]]:
        """Run the task for each element, one after another, in one message."""
        return self._signature((list(xs),), {}, immutable=True, form="map")

    def starmap(self, xs: Iterable[tuple[Any, ...]]) -> Signature[object, list[T]]:
        """Run the task with each element as its arguments, one after another, in one message."""
        return self._signature(([list(each) for each in xs],), {}, immutable=True, form="starmap")

    def chunks(self, xs: Iterable[tuple[Any, ...]], size: int) -> Group[object, list[T]]:
        """Cut the argument tuples into lists of `size`, and make a group of starmaps; its value is a list of lists."""
        if size < 1:
            raise UsageError(f"chunks of {size}: give a size of at least 1")
        given = list(xs)
        return group(self.starmap(given[start : start + size]) for start in range(0, len(given), size))

    def _signature(self, args: Any, kwargs: Any, **rest: Any) -> Signature[Any, Any]:
        if rest.get("form") is None:
            self.definition.binding.check(args, kwargs)
        return Signature(self.definition.name, args, kwargs, app=self.app, **rest)

    def __reduce__(self) -> tuple[Any, ...]:
        # The function cannot be pickled by name, because the name now means this object.
        return _registered, (self.definition.place[0], self.definition.fn.__qualname__)

    def __repr__(self) -> str:
        return f"<task {self.definition.name}>"


def _registered(module: str, qualname: str) -> Any:
    found: Any = sys.modules[module] if module in sys.modules else __import__(module, fromlist=["_"])
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


class AsyncTask(TaskFunction[P, T]):
    """A task made of an `async def`."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function, here and now."""
        self.definition.check_plain_call(args, kwargs)
        value: T = await self.definition.fn(*args, **kwargs)
        return value

    @overload
    def s(
        self: Callable[Concatenate[X, Q], Coroutine[Any, Any, U]], *args: Q.args, **kwargs: Q.kwargs
    ) -> Signature[X, U]: ...
    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[Never, T]: ...
    def s(self, *args: Any, **kwargs: Any) -> Any:
        """Make a signature: all arguments, or all but the first, which is then the input."""
        return self._signature(args, kwargs)


class SyncTask(TaskFunction[P, T]):
    """A task made of a plain function; workers run it in a thread, or in a process with `executor="process"`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function, here and now."""
        self.definition.check_plain_call(args, kwargs)
        value: T = self.definition.fn(*args, **kwargs)
        return value

    @overload
    def s(self: Callable[Concatenate[X, Q], U], *args: Q.args, **kwargs: Q.kwargs) -> Signature[X, U]: ...
    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[Never, T]: ...
    def s(self, *args: Any, **kwargs: Any) -> Any:
        """Make a signature: all arguments, or all but the first, which is then the input."""
        return self._signature(args, kwargs)


class TaskOptions(Protocol):
    """What registers a finished task function: the app."""

    def register(self, definition: Definition) -> None:
        """Take a definition in."""
        ...


@attrs.frozen
class TaskDecorator:
    """`@app.task`, bare or with options."""

    app: Any
    options: dict[str, Any] = attrs.field(factory=dict[str, Any])

    @overload
    def __call__(self, f: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # a coroutine is a value too; order decides
    @overload
    def __call__(self, f: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def __call__(
        self,
        *,
        name: str = ...,
        queue: str = ...,
        priority: Priority = ...,
        size: Size = ...,
        retry_policy: RetryPolicy = ...,
        timeout: float | timedelta | None = ...,
        executor: Executor = ...,
        dlq_eligible: bool = ...,
        result_ttl: float | timedelta = ...,
        max_deliveries: int = ...,
        delivery: Literal["at_least_once", "at_most_once"] = ...,
    ) -> TaskDecorator: ...
    def __call__(self, *f: Any, **options: Any) -> Any:
        """Register a function as a task.

        Raises:
            UsageError: The name is taken by a task of another place, or an option is wrong.
            TypeError: It is no function that a worker could call.
        """
        if not f:
            return TaskDecorator(self.app, {**self.options, **options})
        definition = define(f[0], **self.options)
        self.app.register(definition)
        kind: Any = AsyncTask if definition.is_async else SyncTask
        return kind(definition, self.app)


def define(fn: Any, *, name: str | None = None, executor: Executor = "thread", **options: Any) -> Definition:
    """Look at a function, and make a definition of it."""
    if isinstance(fn, type) or not callable(fn) or inspect.ismethod(fn):
        raise TypeError(f"{fn!r} cannot be a task: decorate a function")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise TypeError(f"{fn.__qualname__} yields; a task returns one value")
    if executor not in ("thread", "process"):
        raise UsageError(f"executor={executor!r}: there are 'thread' and 'process'")
    if name is None and fn.__name__ == "<lambda>":
        raise UsageError("a lambda has no name of its own: @app.task(name=...)")
    parameters = inspect.signature(fn).parameters
    if next(iter(parameters), None) == "self" and "." in fn.__qualname__.rpartition("<locals>.")[2]:
        raise TypeError(f"{fn.__qualname__} is a method: use a function")
    retry_policy = options.pop("retry_policy", None) or NoRetry()
    check_options(options)
    is_async = inspect.iscoroutinefunction(fn)
    if is_async and executor == "process":
        raise UsageError(f"{fn.__qualname__}: executor='process' is for plain functions")
    chosen = name or task_name(fn)
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return Definition(
        name=chosen,
        fn=fn,
        binding=Binding.of(fn, chosen, is_injected),
        is_async=is_async,
        executor=executor,
        retry_policy=retry_policy,
        options=options,
        injected=tuple(name for name, each in parameters.items() if each.default is injected),
        place=(fn.__module__, f"{code.co_filename}:{fn.__qualname__}" if code else fn.__qualname__),
    )


def task_name(fn: Callable[..., Any]) -> str:
    """Name a function as the worker will find it: `module:qualname`, without `<locals>`."""
    return f"{module_name(fn.__module__)}:{fn.__qualname__.replace('<locals>.', '')}"


def module_name(module: str) -> str:
    """The name a worker imports this module by, even while it runs as a script."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):
        return str(spec.name).removesuffix(".__main__")
    return file_module(Path(getattr(main, "__file__", "interactive")))


def file_module(path: Path) -> str:
    """The name by which a file is imported from the folder above its outermost package."""
    path = path.resolve()
    parts = [path.stem]
    while ((path := path.parent) / "__init__.py").exists():
        parts.insert(0, path.name)
    return ".".join(parts)
