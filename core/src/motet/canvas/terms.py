"""Terms: what may be composed and submitted. Frozen values, equal by value; no method touches a broker by itself.

The laws L1 to L12 that they obey are in docs/canvas.md; three differ from Celery on purpose: groups never flatten, a
group of one is `[x]`, an empty group is `[]`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, Self, TypeAlias, Unpack, overload

import attrs
from typing_extensions import TypeVar

from motet import codec
from motet.canvas.data import read_option, written
from motet.canvas.launching import Launcher, Submission, launcher
from motet.errors import UsageError
from motet.options import Options, check_options, seconds

if TYPE_CHECKING:
    from motet.handle import GroupHandle, Handle
    from motet.outcome import ErrorInfo

__all__ = ["Chain", "Form", "Group", "Recovered", "Scope", "Signature", "Term", "chain", "chord", "group", "signature"]

I = TypeVar("I", contravariant=True, default=Any)
V = TypeVar("V", covariant=True, default=Any)
J = TypeVar("J")
M = TypeVar("M", default=Any)
T = TypeVar("T")
U = TypeVar("U")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")

Policy = Literal["wait", "fail_fast", "collect"]
Form = Literal["call", "map", "starmap"]


@attrs.frozen
class Scope:
    """What decorates a term: callbacks and limits. It never changes the value."""

    on_success: tuple[Term[Any, Any], ...] = ()
    on_failure: tuple[Term[Any, Any], ...] = ()
    within: float | None = None


PLAIN = Scope()
NOTHING: Mapping[str, Any] = MappingProxyType({})  # shared: a group of 100,000 would hold 200,000 empty dicts


Change: TypeAlias = "Callable[[Term[Any, Any]], Term[Any, Any]]"


@attrs.frozen(eq=False, weakref_slot=False)
class Term(Generic[I, V]):
    """Something that takes an input of type I, runs on workers, and has a value of type V."""

    scope: Scope = attrs.field(default=PLAIN, kw_only=True)

    @property
    def children(self) -> tuple[Term[Any, Any], ...]:
        """The direct members, in order."""
        return ()

    def __or__(self: Term[J, T], other: Term[T, U]) -> Chain[J, U]:
        return _joined(self, other, drop=False)

    def __rshift__(self: Term[J, Any], other: Term[Never, U]) -> Chain[J, U]:
        return _joined(self, other, drop=True)

    def on_success(self, callback: Term[V, Any]) -> Self:
        """Start the callback once, with the value, when this term has succeeded. It never holds the run open."""
        return self._decorated(on_success=(*self.scope.on_success, callback))

    def on_failure(self, callback: Term[ErrorInfo, Any]) -> Self:
        """Start the callback once, with one `ErrorInfo`, when this term has failed for good."""
        return self._decorated(on_failure=(*self.scope.on_failure, callback))

    def within(self, limit: float | timedelta) -> Self:
        """Let the whole term, all attempts included, take this long; then it fails with kind `timeout`."""
        return self._decorated(within=seconds(limit, "the time limit"))

    def recover(self: Term[J, T], handler: Term[ErrorInfo, U]) -> Term[J, T | U]:
        """Run the handler with the `ErrorInfo` when this term fails, and take its value instead."""
        return Recovered(self, _term(handler))

    def _decorated(self, **changes: Any) -> Self:
        for callback in (*changes.get("on_success", ()), *changes.get("on_failure", ())):
            _term(callback)
        return attrs.evolve(self, scope=attrs.evolve(self.scope, **changes))

    def set(self, **options: Unpack[Options]) -> Self:
        """Return the term with these options on every call in it; they win over those given before."""
        check_options(options)

        def chosen(child: Term[Any, Any]) -> Term[Any, Any]:
            return child.set(**options)

        return self._mapped(chosen)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Self:
        """Return the term with arguments given to its first step, or to every member when that is a group."""
        return self

    def _mapped(self, change: Change) -> Self:
        return self

    @property
    def home(self) -> Launcher | None:
        """The app that the tasks in here belong to.

        Raises:
            UsageError: They belong to two apps.
        """
        homes = {id(home): home for child in self.children if (home := child.home) is not None}
        if len(homes) > 1:
            raise UsageError(f"one term, two apps: {', '.join(map(repr, homes.values()))}")
        return next(iter(homes.values()), None)

    def to_mapping(self) -> dict[str, Any]:
        """Write the term as data; `signature(mapping)` reads it back, equal."""
        raise TypeError(f"{type(self).__name__} is not a term that can be written")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Term[Any, Any]:
        """Read what `to_mapping` wrote."""
        return signature(mapping)

    def _scope_mapping(self) -> dict[str, Any]:
        scope = self.scope
        fields = {
            "on_success": [callback.to_mapping() for callback in scope.on_success],
            "on_failure": [callback.to_mapping() for callback in scope.on_failure],
            "within": scope.within,
        }
        return {name: value for name, value in fields.items() if value}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and attrs.astuple(self, recurse=False) == attrs.astuple(other, recurse=False)

    def __hash__(self) -> int:
        return hash(repr(self.to_mapping()))

    def __reduce__(self) -> tuple[Any, ...]:
        return signature, (self.to_mapping(),)

    async def delay(self, *args: Any, **kwargs: Any) -> Handle[V]:
        """Submit with these arguments, all of them the task's; options go through `.set` or `.submit`."""
        return await self.submit(args, kwargs)

    async def submit(
        self, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[Submission]
    ) -> Handle[V]:
        """Hand the term to the workers; the handle waits for its value.

        Raises:
            UsageError: An argument is missing, wrong or cannot travel; or no app is open. Nothing was sent.
            Unavailable: The backend did not confirm in time. Submit again with the same `id` to be sure of one run.
        """
        term = self.bind(tuple(args), kwargs or {}) if args or kwargs else self
        handle: Handle[V] = await launcher(term).launch(term, options)
        return handle

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """Run the whole term here, on a private memory backend, and return its ended handle."""
        term = self.bind(args, kwargs) if args or kwargs else self
        return launcher(term).apply(term)


@attrs.frozen(eq=False, weakref_slot=False)
class Signature(Term[I, V]):
    """A call not yet made: a task's name, arguments and options.

    An input is prepended to the arguments, unless the signature is `immutable`, or takes it `into` a parameter.
    """

    task: str
    args: tuple[Any, ...] = attrs.field(default=(), converter=tuple)
    kwargs: Mapping[str, Any] = NOTHING
    options: Mapping[str, Any] = attrs.field(default=NOTHING, kw_only=True)
    immutable: bool = attrs.field(default=False, kw_only=True)
    parameter: str | None = attrs.field(default=None, kw_only=True)
    form: Form = attrs.field(default="call", kw_only=True)
    app: Launcher | None = attrs.field(default=None, kw_only=True, repr=False)

    def into(self, parameter: str) -> Signature[Any, V]:
        """Take the input as this parameter."""
        return attrs.evolve(self, parameter=parameter, immutable=False)

    def set(self, **options: Unpack[Options]) -> Self:
        check_options(options)
        return attrs.evolve(self, options={**self.options, **options})

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Self:
        if self.immutable:
            return self
        return attrs.evolve(self, args=(*args, *self.args), kwargs={**self.kwargs, **kwargs})

    @property
    def home(self) -> Launcher | None:
        return self.app

    def __eq__(self, other: object) -> bool:
        return type(other) is Signature and all(
            getattr(self, name) == getattr(other, name) for name in self.__match_args__ + COMPARED
        )

    def __hash__(self) -> int:
        return super().__hash__()

    def to_mapping(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"task": self.task, "args": list(self.args), "kwargs": dict(self.kwargs)}
        optional: dict[str, Any] = {
            "options": {name: written(value) for name, value in self.options.items()},
            "immutable": self.immutable,
            "into": self.parameter,
            "form": self.form if self.form != "call" else None,
            **self._scope_mapping(),
        }
        return fields | {name: value for name, value in optional.items() if value}


COMPARED = ("options", "immutable", "parameter", "form", "scope")


@attrs.frozen(eq=False, weakref_slot=False)
class Chain(Term[I, V]):
    """Steps in order; each takes the value of the one before, unless its number is in `drops`."""

    steps: tuple[Term[Any, Any], ...] = ()
    drops: frozenset[int] = frozenset()

    @property
    def children(self) -> tuple[Term[Any, Any], ...]:
        return self.steps

    def _mapped(self, change: Change) -> Self:
        return attrs.evolve(self, steps=tuple(map(change, self.steps)))

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Self:
        if not self.steps:
            raise UsageError("an empty chain takes no arguments")
        return attrs.evolve(self, steps=(self.steps[0].bind(args, kwargs), *self.steps[1:]))

    def to_mapping(self) -> dict[str, Any]:
        drops = {"drops": sorted(self.drops)} if self.drops else {}
        return {"chain": [step.to_mapping() for step in self.steps], **drops, **self._scope_mapping()}


@attrs.frozen(eq=False, weakref_slot=False)
class Group(Term[I, list[M]], Generic[I, M]):
    """Members at once, all with the same input; its value is the list of theirs, in order."""

    members: tuple[Term[Any, M], ...] = ()
    rule: Policy = attrs.field(default="wait", kw_only=True)
    min_success: int | None = attrs.field(default=None, kw_only=True)
    gap: float = attrs.field(default=0.0, kw_only=True)

    @property
    def children(self) -> tuple[Term[Any, Any], ...]:
        return self.members

    @overload
    def policy(self, rule: Literal["collect"], *, min_success: int | None = None) -> Group[I, M | ErrorInfo]: ...
    @overload
    def policy(self, rule: Literal["wait", "fail_fast"], *, min_success: int | None = None) -> Group[I, M]: ...
    def policy(self, rule: Policy, *, min_success: int | None = None) -> Any:
        """Say what a failing member does: let the others end (`wait`), stop them (`fail_fast`), or count as a value.

        With `min_success=k` the group succeeds when k members do; what failed stands in the list as an `ErrorInfo`.
        """
        if rule not in ("wait", "fail_fast", "collect"):
            raise UsageError(f"policy {rule!r}: there are 'wait', 'fail_fast' and 'collect'")
        if min_success is not None and not 0 <= min_success <= len(self.members):
            raise UsageError(f"min_success={min_success} of {len(self.members)} members")
        return attrs.evolve(self, rule=rule, min_success=min_success)

    def stagger(self, gap: float | timedelta) -> Self:
        """Start member n after n times this gap."""
        return attrs.evolve(self, gap=seconds(gap, "the gap"))

    def _mapped(self, change: Change) -> Self:
        return attrs.evolve(self, members=tuple(map(change, self.members)))

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Self:
        def bound(member: Term[Any, Any]) -> Term[Any, Any]:
            return member.bind(args, kwargs)

        return self._mapped(bound)

    def to_mapping(self) -> dict[str, Any]:
        optional = {
            "rule": self.rule if self.rule != "wait" else None,
            "min_success": self.min_success,
            "gap": self.gap,
        }
        return {
            "group": [member.to_mapping() for member in self.members],
            **{name: value for name, value in optional.items() if value not in (None, 0.0)},
            **self._scope_mapping(),
        }

    async def delay(self, *args: Any, **kwargs: Any) -> GroupHandle[M]:
        return await self.submit(args, kwargs)

    async def submit(
        self, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None, **options: Unpack[Submission]
    ) -> GroupHandle[M]:
        handle: Any = await super().submit(args, kwargs, **options)
        group_handle: GroupHandle[M] = handle
        return group_handle


@attrs.frozen(eq=False, weakref_slot=False)
class Recovered(Term[I, V]):
    """A term, and the handler that takes over when it fails."""

    inner: Term[Any, Any]
    handler: Term[Any, Any]

    @property
    def children(self) -> tuple[Term[Any, Any], ...]:
        return (self.inner, self.handler)

    def _mapped(self, change: Change) -> Self:
        return attrs.evolve(self, inner=change(self.inner), handler=change(self.handler))

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Self:
        return attrs.evolve(self, inner=self.inner.bind(args, kwargs))

    def to_mapping(self) -> dict[str, Any]:
        return {"recover": self.inner.to_mapping(), "handler": self.handler.to_mapping(), **self._scope_mapping()}


def is_term(value: object) -> bool:
    """Say whether a value is a term, of whatever type."""
    return isinstance(value, Term)


def _term(value: Any) -> Term[Any, Any]:
    if is_term(value):
        term: Term[Any, Any] = value
        return term
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("a submitted call is no term: put brackets round the composition, (a | b).submit()")
    raise TypeError(f"{value!r} is no term: write task.s(...)")


def _joined(left: Term[Any, Any], right: object, *, drop: bool) -> Chain[Any, Any]:
    first, second = _steps(left), _steps(_term(right))
    drops = set(first[1]) | {len(first[0]) + number for number in second[1]}
    if drop and second[0]:
        drops.add(len(first[0]))
    return Chain((*first[0], *second[0]), frozenset(drops))


def _steps(term: Term[Any, Any]) -> tuple[tuple[Term[Any, Any], ...], frozenset[int]]:
    """Open up a chain, unless it is decorated: its callbacks belong to its own end (L1, L11)."""
    if isinstance(term, Chain) and term.scope == PLAIN:
        return term.steps, term.drops
    return (term,), frozenset()


@overload
def chain(*, on_failure: Term[ErrorInfo, Any] | None = None) -> Chain[Any, Any]: ...
@overload
def chain(a: Term[J, T], /, *, on_failure: Term[ErrorInfo, Any] | None = None) -> Term[J, T]: ...
@overload
def chain(a: Term[J, A], b: Term[A, T], /, *, on_failure: Term[ErrorInfo, Any] | None = None) -> Chain[J, T]: ...
@overload
def chain(
    a: Term[J, A], b: Term[A, B], c: Term[B, T], /, *, on_failure: Term[ErrorInfo, Any] | None = None
) -> Chain[J, T]: ...
@overload
def chain(
    a: Term[J, A], b: Term[A, B], c: Term[B, C], d: Term[C, T], /, *, on_failure: Term[ErrorInfo, Any] | None = None
) -> Chain[J, T]: ...
@overload
def chain(*terms: Term[Any, Any], on_failure: Term[ErrorInfo, Any] | None = None) -> Term[Any, Any]: ...
def chain(*terms: Any, on_failure: Any = None) -> Any:
    """Compose terms one after another; `chain()` returns its input.

    `on_failure` fires once when the chain fails, whichever link did, after the link's own handler.
    """
    if len(terms) == 1 and on_failure is None:
        return _term(terms[0])
    steps: list[Term[Any, Any]] = []
    drops: set[int] = set()
    for term in terms:
        inner, marks = _steps(_term(term))
        drops.update(len(steps) + number for number in marks)
        steps.extend(inner)
    if on_failure is not None:
        return Chain(tuple(steps), frozenset(drops)).on_failure(on_failure)
    return Chain(tuple(steps), frozenset(drops))


@overload
def group(terms: Iterable[Term[J, T]], /) -> Group[J, T]: ...
@overload
def group(a: Term[J, T], /) -> Group[J, T]: ...
@overload
def group(a: Term[J, A], b: Term[J, B], /) -> Group[J, A | B]: ...
@overload
def group(a: Term[J, A], b: Term[J, B], c: Term[J, C], /) -> Group[J, A | B | C]: ...
@overload
def group(a: Term[J, A], b: Term[J, B], c: Term[J, C], d: Term[J, D], /) -> Group[J, A | B | C | D]: ...
@overload
def group(*terms: Term[J, T]) -> Group[J, T]: ...
def group(*terms: Any) -> Any:
    """Compose terms side by side: give them as arguments, or as one iterable, which is read once, now."""
    if len(terms) == 1 and not isinstance(terms[0], Term):
        given: Any = terms[0]
        if isinstance(given, str | bytes | Mapping | AsyncIterable) or not hasattr(given, "__iter__"):
            raise TypeError(f"group() takes terms, or one iterable of terms, not {type(terms[0]).__name__}")
        members: Iterable[object] = terms[0]
        return Group(tuple(_term(each) for each in members))
    return Group(tuple(_term(each) for each in terms))


def chord(header: Iterable[Term[J, T]] | Group[J, T], body: Term[list[T], U]) -> Chain[J, U]:
    """Run the header's members at once, then the body with the list of their values: `group(header) | body`."""
    members = header if isinstance(header, Group) else group(header)
    return members | body


def signature(value: Mapping[str, Any] | Term[Any, Any]) -> Term[Any, Any]:
    """Read a term that `to_mapping` wrote; a term is returned as it is.

    Raises:
        UsageError: The mapping is none that a term wrote.
    """
    if isinstance(value, Term):
        return value
    given: Any = value  # what the annotation says is not what every caller does
    if not isinstance(given, Mapping):
        raise UsageError(f"{type(value).__name__} is no signature: give a term or its mapping")
    return attrs.evolve(_read(value), scope=_read_scope(value))


def _read(mapping: Mapping[str, Any]) -> Term[Any, Any]:
    match mapping:
        case {"task": str(task)}:
            return Signature(
                task,
                mapping.get("args", ()),
                dict(mapping.get("kwargs", {})),
                options={name: read_option(name, value) for name, value in mapping.get("options", {}).items()},
                immutable=mapping.get("immutable", False),
                parameter=mapping.get("into"),
                form=mapping.get("form", "call"),
            )
        case {"chain": list() | tuple()}:
            return Chain(tuple(map(signature, mapping["chain"])), frozenset(mapping.get("drops", ())))
        case {"group": list() | tuple()}:
            return Group(
                tuple(map(signature, mapping["group"])),
                rule=mapping.get("rule", "wait"),
                min_success=mapping.get("min_success"),
                gap=mapping.get("gap", 0.0),
            )
        case {"recover": inner, "handler": handler}:
            return Recovered(signature(inner), signature(handler))
        case _:
            raise UsageError(f"no signature: a mapping with one of task, chain, group, recover, not {list(mapping)}")


def _read_scope(mapping: Mapping[str, Any]) -> Scope:
    return Scope(
        tuple(map(signature, mapping.get("on_success", ()))),
        tuple(map(signature, mapping.get("on_failure", ()))),
        mapping.get("within"),
    )


codec.signature_hook = signature
