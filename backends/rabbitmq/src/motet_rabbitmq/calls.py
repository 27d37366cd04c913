"""What can be asked of a shard: methods of its parts, named and typed once, for whoever asks and whoever answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, get_type_hints, overload

import msgspec

__all__ = ["Method", "call"]

S = TypeVar("S")
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Method(Generic[S, P, R_co]):
    """A method that can be asked for. `grows` says that a shard which is full refuses it.

    `near` says that nothing which other shards forward matters to it, nor leads to anything in them: an owner may be
    handed it in memory, ahead of what its queue has (see `Errand`).
    """

    known: dict[str, Method[Any, Any, Any]] = {}  # noqa: RUF012 - filled while modules are imported, read afterwards

    def __init__(self, function: Callable[Concatenate[S, P], R_co], grows: bool, near: bool) -> None:
        self.function = function
        self.grows = grows
        self.near = near
        self.part, _, self.short = function.__qualname__.partition(".")
        self.name: str = function.__qualname__
        self.known[self.name] = self

    @overload
    def __get__(self, part: None, owner: type[S]) -> Self: ...

    @overload
    def __get__(self, part: S, owner: type[S]) -> Callable[P, R_co]: ...

    def __get__(self, part: S | None, owner: type[S]) -> Any:
        return self if part is None else MethodType(self.function, part)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function)

    @cached_property
    def arguments(self) -> Callable[[bytes], tuple[Any, ...]]:
        """Read the arguments."""
        names = list(inspect.signature(self.function).parameters)[1:]
        several: Any = tuple  # made while it runs, which checkers do not follow
        types = several[tuple(self._hints[name] for name in names)]
        return msgspec.msgpack.Decoder(types).decode

    @cached_property
    def answer(self) -> Callable[[bytes], R_co]:
        """Read the answer."""
        decoder: Any = msgspec.msgpack.Decoder(self._hints["return"])
        read: Callable[[bytes], R_co] = decoder.decode
        return read


def call(
    *, grows: bool = False, near: bool = False
) -> Callable[[Callable[Concatenate[S, P], R_co]], Method[S, P, R_co]]:
    """Let a method be asked for from other processes."""

    def decorate(function: Callable[Concatenate[S, P], R_co]) -> Method[S, P, R_co]:
        return Method(function, grows, near)

    return decorate
