"""How the call of a task is checked, sent by name, and read back.

A call travels as one map from parameter to value, without the defaults, so that a deploy may reorder parameters or
change a default while messages are in flight. `*args` is one list in that map and `**kwargs` one map. What is
injected (the context, dependencies) never travels, and is refused when it does.
"""

from __future__ import annotations

import inspect
import typing
from functools import cached_property
from types import GenericAlias, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import UNSET, msgpack

from motet import codec
from motet.depth import LIMITS, check_depth
from motet.errors import DecodeError, UsageError
from motet.parameters import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["Binding", "Call", "Mode"]

Mode = Literal["prepend", "ignore"] | tuple[Literal["into"], str]
"""Where the value of the step before goes: first, nowhere, or into a parameter by its name."""

Call = tuple[list[Any], dict[str, Any]]
"""What stands between the brackets of `fn(*args, **kwargs)`."""

Reader = typing.Callable[[bytes | msgspec.Raw], Any]


def _nothing(annotation: Any) -> bool:  # noqa: ARG001 - it is a predicate
    return False


class Binding:
    """The parameters of one task, as both sides of the wire see them.

    Annotations are resolved when they are first needed, so forward references are fine; `resolve` asks for it.
    Building a `Binding` from any signature and hints is allowed: a class task has fields instead of a function.
    """

    def __init__(
        self,
        name: str,
        signature: inspect.Signature,
        hints: Callable[[], Mapping[str, Any]],
        is_injected: Callable[[Any], bool] = _nothing,
    ) -> None:
        self.name = name
        self._signature = signature
        self._hints = hints
        self._is_injected = is_injected

    @classmethod
    def of(cls, fn: Callable[..., Any], name: str, is_injected: Callable[[Any], bool] = _nothing) -> Binding:
        """Read the signature of `fn`; parameters whose annotation `is_injected` stay off the wire."""
        return cls(name, inspect.signature(fn), lambda: _hints(fn, name), is_injected)

    def resolve(self) -> None:
        """Resolve every annotation now, as a worker does at its start.

        Raises:
            UsageError: An annotation cannot be resolved, or its values cannot be read back; it is named.
        """
        _ = self._form

    @property
    def injected(self) -> Mapping[str, Any]:
        """The parameters that the worker fills, and their annotations."""
        return self._form.parameters.injected

    # --- submit ------------------------------------------------------------------------------------------------------

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise what a call with these arguments, complete or not, would raise at once.

        Raises:
            TypeError: Too many, unknown or doubled arguments, in Python's own words.
            UsageError: An injected parameter was given.
        """
        if kwargs or len(args) > len(self._parameters.positional):  # nothing else can be wrong
            self._parameters.bind(args, kwargs)

    def encode_call(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, partial: bool = False) -> bytes:
        """Write the arguments by name, proven to come back equal under the task's annotations.

        Raises:
            TypeError: Too many, unknown or doubled arguments.
            UsageError: One is missing and the call is not `partial`, or one is injected.
            NotSerializable: One would not come back equal; it is named.
        """
        form = self._form
        if form.plain and not partial:
            try:
                call = form.call(*args, **kwargs)
                raw = _encoder.encode(call)
                if len(raw) > LIMITS.depth:
                    check_depth(raw)
                if form.read(raw) == call:
                    return raw
            except Exception:  # noqa: BLE001, S110 - the careful way below finds the words for it
                pass
        given = form.parameters.bind(args, kwargs)
        if not partial:
            form.parameters.require(given)
        return self._encode_named(given)

    def accepts_input(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Name the parameter that takes the value of the step before, which stands in front of `args`.

        Raises:
            UsageError: There is no place for an input, or its place is taken.
        """
        parameters = self._parameters
        target = parameters.first(kwargs)
        parameters.bind_around(target, args, kwargs)
        return target

    def bind_step(self, args: Sequence[Any], kwargs: Mapping[str, Any], mode: Mode) -> tuple[bytes, str | None]:
        """Write the given arguments and name the parameter that the input will fill, None when it is ignored.

        Raises:
            TypeError, UsageError, NotSerializable: as `encode_call` and `accepts_input`.
        """
        if mode == "ignore":
            return self.encode_call(args, kwargs), None
        parameters = self._form.parameters
        target = parameters.first(kwargs) if mode == "prepend" else parameters.into(mode[1], kwargs)
        given = parameters.bind_around(target, args, kwargs)
        parameters.require(given, target)
        return self._encode_named(given), target

    def encode_many(self, items: Iterable[Any], *, star: bool = False) -> bytes:
        """Write the elements of `map`, or with `star` the argument tuples of `starmap`, each proven to come back.

        Raises:
            TypeError, UsageError, NotSerializable: as `encode_call`, for the element at fault.
        """
        parameters, readers = self._form.parameters, self._form.readers
        written: list[Any] = []
        for index, item in enumerate(items):
            given = parameters.bind(tuple(item) if star else (item,), {})
            parameters.require(given)
            what = f"element {index} for {self.name}"
            parts = [(key, codec.carry(value, readers[key], what)) for key, value in given.items()]
            if star:
                written.append([raw for key, part in parts for raw in _spread(part, star=key == parameters.star)])
            else:
                written += [raw for key, part in parts for raw in _spread(part, star=key == parameters.star)]
        return codec.encode(written, f"the elements for {self.name}")

    def encode_result(self, value: Any, *, many: bool = False) -> bytes:
        """Write what the task returned; with `many` the list that `map` returned.

        Raises:
            NotSerializable: It would not come back equal under the task's return annotation.
        """
        if not many and type(value) is self._form.scalar:
            try:
                return _encoder.encode(value)
            except Exception:  # noqa: BLE001, S110 - a number too long, half a character: named below
                pass
        return codec.carry(value, self.result_decoder(many=many), f"the result of {self.name}")

    def _encode_named(self, given: Mapping[str, Any]) -> bytes:
        readers, name = self._form.readers, self.name
        parts = {
            key: msgspec.Raw(codec.carry(value, readers[key], f"argument {key!r} of {name}"))
            for key, value in given.items()
        }
        return codec.encode(parts, f"the arguments of {name}")

    # --- worker ------------------------------------------------------------------------------------------------------

    def decode_call(
        self, raw: bytes | msgspec.Raw, input_raw: bytes | msgspec.Raw | None = None, input_name: str | None = None
    ) -> Call:
        """Read the arguments, ready for `fn(*args, **kwargs)` once `inject` has added the rest.

        Raises:
            DecodeError: Unreadable, wrong, unknown or missing arguments, such as those of another release; the task
                and the parameter are named.
        """
        form = self._form
        if input_name is not None and input_raw is None:
            # What stood before it was empty after all: a `recover` around an empty chain may hand on nothing.
            if input_name in form.parameters.required:
                raise DecodeError(f"{self.name} was sent no input for {input_name!r}")
            input_name = None
        if form.plain:
            try:
                if len(raw) > LIMITS.depth:
                    check_depth(raw)
                values = _asdict(form.reader(input_name)(raw))
                if form.has_defaults:
                    values = {key: value for key, value in values.items() if value is not UNSET}
                if input_name is not None and input_raw is not None:
                    values[input_name] = form.readers[input_name](input_raw)
            except Exception:  # noqa: BLE001, S110 - the careful way below finds the words for it
                pass
            else:
                return [], values
        values = self._decode_named(raw, input_name)
        if input_name is not None and input_raw is not None:
            self._put_input(values, input_name, input_raw)
        return self._placed(values)

    def decode_many(self, raw: bytes | msgspec.Raw, *, star: bool = False) -> Iterator[Call]:
        """Read the elements that `map` or `starmap` runs over, one call each.

        Raises:
            DecodeError: At the element that cannot be read or does not fit the parameters.
        """
        for index, item in enumerate(_items(raw, f"the elements for {self.name}")):
            what = f"element {index} for {self.name}"
            try:
                given = self._form.parameters.bind(_items(item, what) if star else (item,), {})
            except TypeError as error:
                raise DecodeError(f"{what}: {error}", bytes(item)) from error
            values = {
                key: self._read(key, value if isinstance(value, msgspec.Raw) else _encoder.encode(value))
                for key, value in given.items()
            }
            yield self._placed(values)

    def inject(self, args: list[Any], kwargs: dict[str, Any], values: Mapping[str, Any]) -> None:
        """Add the injected `values` to a decoded call, by position where the function takes them only so."""
        holes = self._form.parameters.holes
        for name, value in values.items():
            if name in holes:
                args[holes[name]] = value
            else:
                kwargs[name] = value

    def result_decoder(self, *, many: bool = False) -> Reader:
        """The reader of what the task returned; with `many` of the list that `map` returned."""
        return self._form.many_results if many else self._form.result

    def _decode_named(self, raw: bytes | msgspec.Raw, input_name: str | None) -> dict[str, Any]:
        try:
            check_depth(raw)
            parts = _named.decode(raw)
        except Exception as error:
            raise DecodeError(f"the arguments of {self.name}: {error}", bytes(raw)) from error
        if input_name in parts and input_name != self._form.parameters.star:
            raise DecodeError(f"{self.name} was sent {input_name!r} twice: in the message and as its input", bytes(raw))
        return {key: self._read(key, part) for key, part in parts.items()}

    def _read(self, key: str, raw: bytes | msgspec.Raw, *, item: bool = False) -> Any:
        form = self._form
        reader = form.items.get(key) if item else form.readers.get(key)
        if reader is None:
            known = "fills that itself" if key in form.parameters.injected else "has no such parameter"
            raise DecodeError(f"{self.name} was sent {key!r}, but {known}", bytes(raw))
        try:
            return reader(raw)
        except DecodeError as error:
            raise DecodeError(f"argument {key!r} of {self.name}: {error.reason}", bytes(raw)) from error

    def _put_input(self, values: dict[str, Any], name: str, raw: bytes | msgspec.Raw) -> None:
        parameters = self._form.parameters
        if name == parameters.star:
            values[name] = [self._read(name, raw, item=True), *values.get(name, ())]
        elif name in self._form.readers or parameters.star_star is None:
            values[name] = self._read(name, raw)
        else:
            more = values.setdefault(parameters.star_star, {})
            more[name] = self._read(parameters.star_star, raw, item=True)

    def _placed(self, values: dict[str, Any]) -> Call:
        try:
            return self._form.parameters.place(values)
        except (TypeError, UsageError) as error:
            raise DecodeError(f"{self.name}: {error}") from error

    # --- resolved once -----------------------------------------------------------------------------------------------

    @cached_property
    def _form(self) -> _Form:
        return _Form(self.name, self._signature, self._hints(), self._is_injected)

    @property
    def _parameters(self) -> Parameters:
        """The parameters as far as they are known: terms are composed at import, before forward references exist."""
        try:
            return self._form.parameters
        except UsageError:
            return Parameters(self.name, self._signature, {})


class _Form:
    """What a binding knows once its annotations are resolved."""

    def __init__(
        self,
        name: str,
        signature: inspect.Signature,
        hints: Mapping[str, Any],
        is_injected: Callable[[Any], bool],
    ) -> None:
        typed = {key: hints.get(key, Any) for key in signature.parameters}
        injected = {key: annotation for key, annotation in typed.items() if is_injected(annotation)}
        self.name = name
        self.parameters = Parameters(name, signature, injected)
        self.readers: dict[str, Reader] = {}
        self.items: dict[str, Reader] = {}
        self._types = {key: annotation for key, annotation in typed.items() if key not in injected}
        for key, annotation in self._types.items():
            what = f"argument {key!r} of {name}"
            self.items[key] = _reader(annotation, what)
            self.readers[key] = _reader(self.parameters.whole(key, annotation), what)
        self._returned: Any = hints.get("return", Any)
        self.result = _reader(self._returned, f"the result of {name}")
        self.scalar = self._returned if self._returned in SCALARS else None
        self.has_defaults = bool(self._types.keys() - self.parameters.required)
        wires = {key: codec.wire_type(annotation) for key, annotation in self._types.items()}
        self.plain = self.parameters.by_name and None not in wires.values()
        self._wires = wires
        self._partial_readers: dict[str | None, Reader] = {}
        if self.plain:
            self.call = self._struct(None)
            self.read = self._partial_readers[None] = codec.wire_decoder(self.call).decode

    @cached_property
    def many_results(self) -> Reader:
        return _reader(GenericAlias(list, self._returned), f"the results of {self.name}")

    def reader(self, left_out: str | None) -> Reader:
        """The fast reader of a whole call, in which the parameter that the input fills must not stand."""
        try:
            return self._partial_readers[left_out]
        except KeyError:
            reader = codec.wire_decoder(self._struct(left_out)).decode
            return self._partial_readers.setdefault(left_out, reader)

    def _struct(self, left_out: str | None) -> Any:
        """The call as a struct: its constructor binds arguments like Python, 15 times faster than `Signature.bind`."""
        if left_out is not None and left_out not in self._wires:
            raise KeyError(left_out)
        base: type[msgspec.Struct] = msgspec.Struct
        for names, kw_only in ((self.parameters.positional, False), (self.parameters.keyword_only, True)):
            fields = [
                (key, self._wires[key]) if key in self.parameters.required else (key, self._wires[key], UNSET)
                for key in names
                if key != left_out
            ]
            base = msgspec.defstruct(
                "Call", fields, bases=(base,), kw_only=kw_only, forbid_unknown_fields=True, module=__name__
            )
        return base


def _reader(annotation: Any, what: str) -> Reader:
    try:
        return codec.decoder(annotation)
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from error


def _hints(fn: Callable[..., Any], name: str) -> Mapping[str, Any]:
    """All annotations, or an error that names the one that cannot be resolved."""
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except Exception:
        plain = inspect.unwrap(fn)
        for key, annotation in getattr(plain, "__annotations__", {}).items():
            alone = SimpleNamespace(__annotations__={key: annotation})
            try:
                typing.get_type_hints(alone, getattr(plain, "__globals__", {}), include_extras=True)
            except Exception as error:
                raise UsageError(
                    f"{name}: the annotation of {key!r} cannot be resolved at run time: {error}"
                ) from error
        raise


def _items(raw: bytes | msgspec.Raw, what: str) -> list[msgspec.Raw]:
    try:
        check_depth(raw)
        return _listed.decode(raw)
    except Exception as error:
        raise DecodeError(f"{what}: {error}", bytes(raw)) from error


def _spread(raw: bytes, *, star: bool) -> list[msgspec.Raw]:
    return _listed.decode(raw) if star else [msgspec.Raw(raw)]


SCALARS: Final = (int, str, bytes, bool, float, type(None))
"""Types of which every value comes back as it was, or cannot be written at all."""
_encoder: Final = msgpack.Encoder()
_named: Final = msgpack.Decoder(dict[str, msgspec.Raw])
_listed: Final = msgpack.Decoder(list[msgspec.Raw])
_asdict: Final = msgspec.structs.asdict
