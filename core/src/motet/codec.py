"""Values to bytes and back: msgpack through msgspec, and nothing that could run code.

What travels: builtins, dates and times, UUID, Decimal, enums, bytes, sets and tuples, dataclasses, attrs classes,
`msgspec.Struct`, pydantic models, and terms (whatever has `to_mapping`). No class is ever named in the bytes: what a
value becomes on the other side is decided by the annotation that reads it. Only terms carry a mark of their own, a
msgpack extension, so that they are restored in untyped places too.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import copy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache, partial
from math import isnan
from operator import is_
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Never, NoReturn, TypeVar, Union, get_args, get_origin, overload
from uuid import UUID

import msgspec
from msgspec import msgpack

from motet.depth import LIMITS, TERM, Limits, check_depth
from motet.errors import DecodeError, MotetError, NotSerializable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LIMITS",
    "Limits",
    "carry",
    "check_depth",
    "decode",
    "decoder",
    "encode",
    "same",
    "signature_hook",
    "wire_decoder",
    "wire_type",
]

T = TypeVar("T")


def _as_it_is(mapping: Mapping[str, Any]) -> object:
    return mapping


MISFIT: Final = (MotetError, msgspec.MsgspecError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a reader raises when a value is of another type; a class of the user's may check in its own ways."""

signature_hook: Callable[[Mapping[str, Any]], object] = _as_it_is
"""Makes a term of its mapping wherever one is read. The module that defines terms puts its own here."""


# --- encoding --------------------------------------------------------------------------------------------------------


def encode(value: object, what: str = "the value") -> bytes:
    """Turn `value` into msgpack bytes. Terms survive at any depth; whether the rest comes back equal, `carry` proves.

    Raises:
        NotSerializable: `value` holds something that is not data, a key that cannot be one, or nests too deep.
    """
    try:
        raw = _encoder.encode(_lowered(value))
        check_depth(raw)
    except RecursionError as error:
        raise NotSerializable(what, "it contains itself, or nests too deep") from error
    except DecodeError as error:
        raise NotSerializable(what, error.reason) from error
    except Exception as error:
        raise NotSerializable(what, str(error)) from error
    return raw


def _lowered(value: Any) -> Any:
    """Replace terms by their marked mappings, and copy only what holds one.

    msgspec would write a term that is a dataclass or attrs class as a plain map; its hook is never asked.
    """
    kind = _kind(value)
    if kind in _LEAVES:
        return value
    if hasattr(kind, "to_mapping"):
        return _marked(value)
    if issubclass(kind, dict):
        return _lowered_dict(value)
    if issubclass(kind, _ARRAYS):
        if _LEAVES.issuperset(map(type, value)):
            return value
        members = [_lowered(member) for member in value]
        return value if all(map(is_, members, value)) else members
    return _lowered_fields(value, _field_names(kind))


def _lowered_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    if not _KEYS.issuperset(map(type, value)):
        for key in value:
            _untyped.decode(_encoder.encode({key: None}))
            if isinstance(key, float) and isnan(key):
                raise ValueError("a NaN cannot be a key")
    if _LEAVES.issuperset(map(type, value.values())):
        return value
    return {key: _lowered(member) for key, member in value.items()}


def _lowered_fields(value: Any, names: tuple[str, ...]) -> Any:
    fields = {name: getattr(value, name, None) for name in names}
    changed = {name: new for name, old in fields.items() if (new := _lowered(old)) is not old}
    if not changed:
        return value
    value = copy(value)
    put = msgspec.structs.force_setattr if isinstance(value, msgspec.Struct) else object.__setattr__
    for name, new in changed.items():
        put(value, name, new)
    return value


@cache
def _field_names(kind: Any) -> tuple[str, ...]:
    if names := getattr(kind, "__struct_fields__", None):
        return tuple(names)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else getattr(kind, "__attrs_attrs__", ())
    return tuple(field.name for field in fields)


def _marked(term: Any) -> msgpack.Ext:
    return msgpack.Ext(TERM, _encoder.encode(_lowered(term.to_mapping())))


def _unknown_to_msgspec(value: Any) -> object:
    kind = _kind(value)
    if hasattr(kind, "to_mapping"):
        return _marked(value)
    if hasattr(kind, "model_dump"):
        return _dumped(value)
    match value:  # subclasses of the plain types travel as what they extend
        case str():
            return str.__str__(value)
        case int():
            return int.__pos__(value)
        case float():
            return float.__pos__(value)
        case _:
            pass
    raise TypeError(f"{kind.__qualname__} is not data: send plain values, or a dataclass and annotate the parameter")


def _dumped(model: Any) -> msgspec.Raw:
    """A pydantic model's fields; in pydantic's own JSON spelling when they hold types that only pydantic knows."""
    try:
        return msgspec.Raw(_encoder.encode(_lowered(model.model_dump(round_trip=True, warnings=False))))
    except TypeError:
        return msgspec.Raw(_encoder.encode(model.model_dump(mode="json", round_trip=True, warnings=False)))


# --- decoding --------------------------------------------------------------------------------------------------------


def decode(raw: bytes | msgspec.Raw, what: str = "the value") -> object:
    """Read bytes without a type: builtins, aware datetimes and terms.

    Raises:
        DecodeError: `raw` is not one well-formed value, or nests too deep. Nothing else, whatever the bytes.
    """
    try:
        check_depth(raw)
        return _untyped.decode(raw)
    except Exception as error:
        raise _unreadable(error, raw, f"{what}: ") from error


@overload
def decoder(annotation: type[T]) -> Callable[[bytes | msgspec.Raw], T]: ...
@overload
def decoder(annotation: Any) -> Callable[[bytes | msgspec.Raw], Any]: ...
def decoder(annotation: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    """Make a reader for `annotation`, once; it raises `DecodeError` and nothing else, whatever the bytes.

    Raises:
        UsageError: The annotation cannot be read unambiguously; the message says why.
    """
    read = _inner(annotation)

    def typed(raw: bytes | msgspec.Raw) -> Any:
        try:
            check_depth(raw)
            return read(raw)
        except Exception as error:
            raise _unreadable(error, raw) from error

    return typed


def wire_type(annotation: Any) -> Any:
    """The type by which msgspec alone reads `annotation`, or None when it takes more than msgspec."""
    wire = _with_terms(annotation)
    try:
        wire_decoder(wire)
    except (TypeError, NameError):
        return None
    return wire


def wire_decoder(wire: Any) -> msgpack.Decoder[Any]:
    """The bare msgspec decoder for a `wire_type`: the fast door. Who uses it checks depth and translates errors."""
    return msgpack.Decoder(wire, dec_hook=_restored, ext_hook=_unmarked)


def _inner(annotation: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    try:
        return wire_decoder(_with_terms(annotation)).decode
    except NameError as error:
        raise UsageError(f"{_shown(annotation)} refers to a name that is not there at run time: {error}") from error
    except TypeError as error:
        if any(hasattr(kind, "model_validate") for kind in _classes(annotation)):
            return _adapted(annotation)
        if get_origin(annotation) in (Union, UnionType):
            members = sorted(get_args(annotation), key=lambda member: member is str)  # most text is anything but a UUID
            return _first_that_fits([_inner(member) for member in members])
        raise UsageError(f"a value of type {_shown(annotation)} cannot be read back: {error}") from error


def _adapted(annotation: Any) -> Callable[[bytes | msgspec.Raw], Any]:
    """Unions of pydantic models are pydantic's to tell apart. Who annotates with them has it imported."""
    adapter = sys.modules["pydantic"].TypeAdapter(annotation)
    validate = _by_name(adapter.validate_python)
    return lambda raw: validate(_untyped.decode(raw))


def _first_that_fits(readers: list[Callable[[bytes | msgspec.Raw], Any]]) -> Callable[[bytes | msgspec.Raw], Any]:
    """Read a union that msgspec finds ambiguous: the member that writes the same bytes again, else the first to read.

    `carry` refuses at submit what such a guess would turn into something else.
    """

    def read(raw: bytes | msgspec.Raw) -> Any:
        found: list[Any] = []
        problem: Exception = ValueError("no member of the union fits")
        for reader in readers:
            try:
                found.append(reader(raw))
            except MISFIT as error:
                problem = error
            else:
                if encode(found[-1]) == bytes(raw):
                    return found[-1]
        if not found:
            raise problem
        return found[0]

    return read


def _with_terms(annotation: Any) -> Any:
    """The annotation with term classes replaced by stand-ins, so that msgspec never takes one for plain data."""
    if annotation in (inspect.Parameter.empty, object, Never, NoReturn):
        return Any
    origin, args = get_origin(annotation), get_args(annotation)
    kind = origin or annotation
    if isinstance(kind, type) and hasattr(kind, "from_mapping"):
        return _stand_in((kind,))
    if origin is Annotated:
        return Annotated[(_with_terms(args[0]), *annotation.__metadata__)]
    if origin in (Union, UnionType):
        members = dict.fromkeys(_with_terms(member) for member in args)
        terms = [member for member in members if isinstance(member, _Restorable)]
        rest = [member for member in members if member not in terms]
        if terms:
            rest.append(_stand_in(tuple(kind for member in terms for kind in member.kinds)))
        joined: Any = rest[0]
        for member in rest[1:]:
            joined = joined | member
        return joined
    if origin is None or any(isinstance(member, list) for member in args):
        return annotation
    new = tuple(member if member is Ellipsis else _with_terms(member) for member in args)
    return annotation if new == args else origin[new]


class _Restorable(type):
    """The type of stand-ins for term classes: what msgspec sees is neither dataclass nor attrs class."""

    kinds: tuple[Any, ...]

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.kinds)


@cache
def _stand_in(kinds: tuple[Any, ...]) -> _Restorable:
    return _Restorable(" | ".join(kind.__name__ for kind in kinds), (), {"kinds": kinds})


def _restored(kind: Any, value: Any) -> Any:
    """Msgspec's question for classes it does not know; what is returned must be an instance of `kind`."""
    kinds = kind.kinds if isinstance(kind, _Restorable) else (get_origin(kind) or kind,)
    if isinstance(value, kinds):
        return value
    for known in kinds:
        if hasattr(known, "from_mapping") and isinstance(value, Mapping):
            return known.from_mapping(value)
        if hasattr(known, "model_validate"):
            return _model_reader(known)(value)
    return value


def _unmarked(code: int, payload: memoryview) -> object:
    if code != TERM:
        raise ValueError(f"extension {code} is not ours")
    return signature_hook(_mapping.decode(payload))


@cache
def _model_reader(model: Any) -> Callable[[Any], Any]:
    return _by_name(model.model_validate)


def _by_name(validate: Callable[..., Any]) -> Callable[[Any], Any]:
    # Fields are dumped under their names; pydantic before 2.11 reads aliases only, and `carry` refuses what that loses.
    return partial(validate, by_name=True) if "by_name" in inspect.signature(validate).parameters else validate


def _classes(annotation: Any) -> Iterator[Any]:
    yield get_origin(annotation) or annotation
    for member in get_args(annotation):
        yield from _classes(member)


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)


def _unreadable(error: Exception, raw: bytes | msgspec.Raw, prefix: str = "") -> DecodeError:
    reason = error.reason if isinstance(error, DecodeError) else str(error)
    return DecodeError(prefix + reason, bytes(raw))


# --- proof that a value comes back -----------------------------------------------------------------------------------


def carry(value: object, read: Callable[[bytes], object], what: str) -> bytes:
    """Encode `value` and prove that `read`, the reader on the other side, makes an equal value of it.

    Tuples may come back as lists where the annotation does not say tuple; that is the one leniency.

    Raises:
        NotSerializable: It is not data, `read` refuses it, or it would come back as something else.
    """
    raw = encode(value, what)
    try:
        back = read(raw)
    except DecodeError as error:
        raise NotSerializable(what, error.reason) from error
    if not same(value, back):
        sent, got = type(value).__qualname__, type(back).__qualname__
        change = f"the {sent} would come back as {got}" if sent != got else f"the {sent} would come back changed"
        raise NotSerializable(what, f"{change}; annotate its type, or send plain data")
    return raw


def same(value: Any, back: Any) -> bool:
    """Whether `back` is as good as `value`: equal, or a list for a tuple, or of the same type with the same bytes.

    The bytes speak for NaN, and for classes without an equality of their own.
    """
    equal: bool | None = None
    with suppress(Exception):  # an `__eq__` that fails has no opinion
        equal = bool(value == back)
    if equal is not False:
        return bool(equal)
    kind, kind_back = _kind(value), _kind(back)
    if kind in _SEQUENCES and kind_back in _SEQUENCES:
        return len(value) == len(back) and all(map(same, value, back))
    if kind is dict and kind_back is dict:
        return value.keys() == back.keys() and all(same(value[key], back[key]) for key in value)
    return kind is kind_back and kind not in _COLLECTIONS and encode(value) == encode(back)


def _kind(value: object) -> Any:
    return type(value)


_KEYS: Final = frozenset({str, int, bytes, bool, type(None)})
_LEAVES: Final = _KEYS | {float, datetime, date, time, timedelta, UUID, Decimal, bytearray, msgspec.Raw}
_SEQUENCES: Final = frozenset({list, tuple})
_COLLECTIONS: Final = _SEQUENCES | {dict, set, frozenset}
_ARRAYS: Final = (list, tuple, set, frozenset)
_encoder: Final = msgpack.Encoder(enc_hook=_unknown_to_msgspec)
_untyped: Final = msgpack.Decoder(ext_hook=_unmarked)
_mapping: Final = msgpack.Decoder(dict[str, Any], ext_hook=_unmarked)
