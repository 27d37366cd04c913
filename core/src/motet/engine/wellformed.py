"""Refusing what is no parcel, key or program before anything of it is done; for backends that would keep anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

import msgspec

from motet.errors import UsageError
from motet.message import Key, Parcel
from motet.options import Lane
from motet.program import Arrive, Bury, Do, Drop, Flag, Guard, Once, Open, Publish, Put, Retry

__all__ = ["check_aware", "check_count", "check_each", "check_keys", "check_parcels", "check_program", "check_text"]

T = TypeVar("T")

PLAIN = (Drop, Open, Flag, Bury)
NATIVE = (bytes, datetime, timedelta)


def check_parcels(parcels: Iterable[Parcel]) -> None:
    """Refuse parcels of which one cannot be sent. Written out, because every message passes here: 0.1 us each.

    Raises:
        UsageError: One has a field of another type, or a `due` time without a zone.
    """
    for parcel in parcels:
        if (
            type(parcel) is not Parcel
            or type(parcel.body) is not bytes
            or type(parcel.id) is not str
            or type(parcel.lane) is not Lane
        ):
            _refuse("parcel", parcel)
        if parcel.due is not None:
            check_aware(parcel.due)


def _always(_: Arrive) -> bool:
    return True


def check_program(ops: Sequence[Any], fires: Callable[[Arrive], bool] = _always) -> None:
    """Refuse a program of which any op cannot be carried out, in any branch of an arrival that `fires` says may fire.

    Raises:
        UsageError: An op is none, or has a field of another type.
    """
    for given in ops:
        # The kinds of every group come first, and by identity: a member's settlement takes 2.5 us in memory.
        kind: Any = given.__class__
        if kind is Once or kind is Put:
            if type(given.key) is not Key or type(given.value) is not bytes:
                _refuse("record", given)
        elif kind is Arrive:
            if type(given.key) is not Key or type(given.slot) is not int or type(given.failed) is not int:
                _refuse("arrival", given)
            if fires(given):
                check_program(given.then_ok)
                check_program(given.then_err)
        elif kind is Publish:
            check_parcels(given.parcels)
        elif kind is Do:
            check_program(given.ops, fires)
        elif kind is Guard:
            check_keys(given.keys)
        elif kind is Retry:
            check_keys((given.key,))
            check_parcels((given.parcel,))
        elif kind in PLAIN:
            check_each((given,), kind)
        else:
            _refuse("op", given)


def check_keys(keys: Iterable[Key]) -> None:
    """Refuse what is no key.

    Raises:
        UsageError: One is none.
    """
    for key in keys:
        if type(key) is not Key or type(key.run) is not str or type(key.name) is not str:
            _refuse("key", key)


def check_each(values: Iterable[T], kind: type[T]) -> None:
    """Refuse values that are not of a wire type in every field; for what is not sent by the thousand.

    Raises:
        UsageError: One is not.
    """
    for value in values:
        if type(value) is not kind:
            _refuse(kind.__name__, value)
        try:
            plain = msgspec.to_builtins(value, builtin_types=NATIVE, str_keys=False)
            msgspec.convert(plain, kind, builtin_types=NATIVE)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{value!r}: {error}") from error


def check_count(number: int, what: str, least: int = 0) -> None:
    """Refuse a number that counts nothing.

    Raises:
        UsageError: It is no integer, or too small.
    """
    if type(number) is not int or number < least:
        raise UsageError(f"{what} must be an integer >= {least}, not {number!r}")


def check_text(*texts: str) -> None:
    """Refuse a name that is no text.

    Raises:
        UsageError: One is none.
    """
    for text in texts:
        if type(text) is not str:
            _refuse("name", text)


def check_aware(moment: datetime) -> None:
    """Refuse an instant that means another in every time zone.

    Raises:
        UsageError: It is no `datetime`, or has no time zone.
    """
    given: Any = moment
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise UsageError(f"{given!r} is no datetime with a time zone")


def _refuse(what: str, given: object) -> NoReturn:
    raise UsageError(f"no {what}, or one with a field of another type: {given!r:.200}")
