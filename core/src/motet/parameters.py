"""The parameters of a task without their types: which argument goes where."""

from __future__ import annotations

from inspect import Parameter
from typing import TYPE_CHECKING, Any

from motet.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from inspect import Signature

__all__ = ["Parameters"]


class Parameters:
    """Binds arguments to names as Python would, leaving out what is injected, and places them again for the call."""

    def __init__(self, task: str, signature: Signature, injected: Mapping[str, Any]) -> None:
        self.task: str = task.rpartition(":")[2]
        self.injected = injected
        every = signature.parameters.values()
        sent = [parameter for parameter in every if parameter.name not in injected]
        in_order = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        self.positional: list[str] = _names(sent, *in_order)
        self.keyword_only: list[str] = _names(sent, Parameter.KEYWORD_ONLY)
        self.star: str | None = next(iter(_names(sent, Parameter.VAR_POSITIONAL)), None)
        self.star_star: str | None = next(iter(_names(sent, Parameter.VAR_KEYWORD)), None)
        self.keywords: frozenset[str] = frozenset(_names(sent, Parameter.POSITIONAL_OR_KEYWORD) + self.keyword_only)
        self.defaults: dict[str, Any] = {p.name: p.default for p in sent if p.default is not Parameter.empty}
        self.required: frozenset[str] = frozenset(self.positional + self.keyword_only) - self.defaults.keys()
        # With `*args` everything before it goes by position; injected values get their place afterwards.
        self.in_place: list[str] = _names(every, *in_order) if self.star else _names(every, Parameter.POSITIONAL_ONLY)
        self.holes: dict[str, int] = {name: index for index, name in enumerate(self.in_place) if name in injected}
        self.by_name: bool = not self.in_place and self.star is None and self.star_star is None

    def whole(self, name: str, annotation: Any) -> Any:
        """The type of what travels under `name`: of `*args` it is a list, of `**kwargs` a map."""
        if name == self.star:
            return list[annotation]
        return dict[str, annotation] if name == self.star_star else annotation

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], filled: str | None = None) -> dict[str, Any]:
        """Give every argument the name it travels under; the parameter `filled` by an input is passed over.

        Raises:
            TypeError: As Python would.
            UsageError: An injected parameter was given.
        """
        names = [name for name in self.positional if name != filled]
        given: dict[str, Any] = dict(zip(names, args, strict=False))
        if len(args) > len(names):
            if self.star is None:
                wanted = f"{len(names)} positional argument{'s' * (len(names) != 1)}"
                raise TypeError(f"{self.task}() takes {wanted} but {len(args)} were given")
            given[self.star] = list(args[len(names) :])
        more: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in self.injected:
                raise UsageError(f"{self.task}() has {name!r} injected: it cannot be sent")
            if name in self.keywords:
                if name in given:
                    raise TypeError(f"{self.task}() got multiple values for argument {name!r}")
                given[name] = value
            elif self.star_star is not None:
                more[name] = value
            elif name in self.positional:
                raise TypeError(f"{self.task}() got a positional-only argument passed as keyword argument: {name!r}")
            else:
                raise TypeError(f"{self.task}() got an unexpected keyword argument {name!r}")
        if more and self.star_star is not None:
            given[self.star_star] = more
        return given

    def require(self, given: Mapping[str, Any], filled: str | None = None) -> None:
        """Raise `UsageError` naming what is missing, if anything is."""
        if missing := self._missing(given, filled):
            raise UsageError(f"{self.task}() still needs {' and '.join(missing)}")

    def _missing(self, given: Mapping[str, Any], filled: str | None = None) -> list[str]:
        return [
            name
            for name in self.positional + self.keyword_only
            if name in self.required and name not in given and name != filled
        ]

    # --- inputs ------------------------------------------------------------------------------------------------------

    def first(self, kwargs: Mapping[str, Any]) -> str:
        """The parameter an input goes to when it stands in front of the arguments, or `UsageError`."""
        if self.positional:
            return self._free(self.positional[0], kwargs)
        if self.star is not None:
            return self.star
        if name := next(iter(self.keyword_only), self.star_star):
            raise UsageError(
                f"{self.task}() takes keywords only and has no place for an input: "
                f'ignore it with .si(...), or name its place with .into("{name}")'
            )
        raise UsageError(f"{self.task}() takes no arguments and has no place for an input: ignore it with .si()")

    def into(self, name: str, kwargs: Mapping[str, Any]) -> str:
        """The parameter called `name`, if an input can go there, or `UsageError`."""
        if name in self.injected:
            raise UsageError(f"{self.task}() has {name!r} injected: an input cannot go there")
        known = name in self.keywords or name in self.positional
        if not known and (self.star_star is None or name in (self.star, self.star_star)):
            raise UsageError(f"{self.task}() has no parameter {name!r} for an input")
        return self._free(name, kwargs)

    def _free(self, name: str, kwargs: Mapping[str, Any]) -> str:
        if name in kwargs and (name in self.keywords or name not in self.positional):
            raise UsageError(f"{self.task}() gets {name!r} twice: from its input and as a keyword")
        return name

    def bind_around(self, target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Bind with the place `target` kept for the input; `UsageError` when the arguments leave none."""
        if self.star is None and len(args) == len(self.positional) and target in self.positional:
            raise UsageError(f"{self.task}() has no place left for an input: all its arguments are given")
        return self.bind(args, kwargs, target)

    # --- the call ----------------------------------------------------------------------------------------------------

    def place(self, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Turn what travelled by name into positional and keyword arguments; injected places hold None until filled.

        Raises:
            UsageError: A required one is missing.
            TypeError: `**kwargs` holds the name of another parameter.
        """
        self.require(values)
        more: dict[str, Any] = {} if self.star_star is None else values.pop(self.star_star, {})
        rest: list[Any] = [] if self.star is None else values.pop(self.star, [])
        for name in more:
            if name in self.keywords or (name in self.injected and name not in self.in_place):
                raise TypeError(f"{self.task}() got multiple values for argument {name!r}")
        args = [None if name in self.holes else values.pop(name, self.defaults.get(name)) for name in self.in_place]
        return [*args, *rest], {**values, **more}


def _names(parameters: Iterable[Parameter], *kinds: object) -> list[str]:
    return [parameter.name for parameter in parameters if parameter.kind in kinds]
