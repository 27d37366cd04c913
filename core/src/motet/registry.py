"""The tasks of an app, and what the compiler asks of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from weakref import WeakSet

from motet import retry
from motet.canvas.compile import Bound
from motet.canvas.plan import Profile, brief
from motet.canvas.terms import Signature, Term
from motet.errors import TooLarge, UnknownTask, UsageError
from motet.options import Priority, Size, instant, seconds
from motet.ports import Clock
from motet.task import Definition

__all__ = ["Registry", "registries"]

ARGUMENTS_LIMIT = 64 * 1024 * 1024
"""Bytes of one call's arguments; above 16 KiB they are kept apart from the message, above this not at all."""

log: logging.Logger = logging.getLogger("motet.registry")


_registries: WeakSet[Registry] = WeakSet()


def registries() -> list[Registry]:
    """Every registry of this process: how a task's process finds the one that an import has filled."""
    return list(_registries)


class Registry:
    """Maps names to definitions, by exact match only: nothing is ever imported by a name from a message."""

    def __init__(self, clock: Clock, result_ttl: float) -> None:
        self.clock = clock
        self.result_ttl = result_ttl
        _registries.add(self)
        self.definitions: dict[str, Definition] = {}
        self.profiles: dict[str, Profile] = {}
        self.only_queue = ""
        """Where every call goes, if set: the worker of an eager run serves one queue."""

    def register(self, definition: Definition) -> None:
        """Take a definition in.

        Raises:
            UsageError: Another function has the name. The same function of the same file, loaded again, replaces it.
        """
        known = self.definitions.get(definition.name)
        if known is not None and known.place != definition.place:
            raise UsageError(
                f"two tasks are named {definition.name!r}: {' '.join(known.place)} and {' '.join(definition.place)}; "
                "give one of them name="
            )
        log.debug("registered task=%s", definition.name)
        self.definitions[definition.name] = definition
        self.profiles.pop(definition.name, None)

    def get(self, name: str) -> Definition:
        """Return a definition.

        Raises:
            UnknownTask: No task has exactly this name.
        """
        definition = self.definitions.get(name)
        if definition is None:
            raise UnknownTask(name, self.definitions)
        return definition

    def bind(self, signature: Signature[Any, Any], fed: bool) -> Bound:
        """Check a signature against its task, for the compiler."""
        definition = self.get(signature.task)
        if signature.form != "call":
            call = definition.binding.encode_many(signature.args[0], star=signature.form == "starmap")
            return Bound(self.profile(definition, signature.options), call, None)
        if not fed or signature.immutable:
            mode: Any = "ignore"
        else:
            mode = ("into", signature.parameter) if signature.parameter else "prepend"
        call, feed = definition.binding.bind_step(signature.args, signature.kwargs, mode)
        if len(call) > ARGUMENTS_LIMIT:
            raise TooLarge(f"the arguments of {definition.name}", len(call), ARGUMENTS_LIMIT)
        return Bound(self.profile(definition, signature.options), call, feed)

    def ttl(self, term: Term[Any, Any], default: float) -> float:
        """How long the result of a term is kept: a single call's as its task says."""
        if not isinstance(term, Signature):
            return default
        for options in (term.options, self.get(term.task).options):
            if (asked := options.get("result_ttl")) is not None:
                return seconds(asked)
        return default

    def profile(self, definition: Definition, options: Mapping[str, Any]) -> Profile:
        """Resolve a task's defaults and a call's options to what the plan says of the call."""
        if options:
            return self.resolve(definition, {**definition.options, **options}, options.get("retry_policy"))
        profile = self.profiles.get(definition.name)
        if profile is None:
            profile = self.profiles[definition.name] = self.resolve(definition, definition.options, None)
        return profile

    def resolve(self, definition: Definition, options: Mapping[str, Any], policy: Any) -> Profile:
        timeout, expires = options.get("timeout"), options.get("expires")
        return Profile(
            task=definition.name,
            queue=self.only_queue or options.get("queue", "default"),
            size=options.get("size", Size.MEDIUM).value,
            priority=int(options.get("priority", Priority.NORMAL)),
            timeout=None if timeout is None else brief(seconds(timeout, "timeout")),
            retry=None if policy is None else retry.to_mapping(policy),
            expires=None if expires is None else instant(expires, self.clock.now(), "expires").timestamp(),
            delay=brief(self.delay(options)),
            ttl=brief(seconds(options.get("result_ttl", self.result_ttl))),
            dlq=options.get("dlq_eligible", False),
            max_deliveries=options.get("max_deliveries", 3),
            at_most_once=options.get("delivery") == "at_most_once",
            headers=options.get("headers"),
        )

    def delay(self, options: Mapping[str, Any]) -> float:
        """Seconds that a call waits once its turn has come."""
        eta: datetime | None = options.get("eta")
        if eta is not None:
            return max(0.0, (eta - self.clock.now()).total_seconds())
        return seconds(options.get("delay") or 0, "delay")
