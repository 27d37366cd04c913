"""Faults of a network, put between a test and a backend: calls that arrive twice, and replies that do not arrive."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import attrs

from motet.ports import Backend, Reply

__all__ = ["Fault", "Plain", "faults"]

ANSWERED_ALIKE = {
    "transport": {"publish", "ack", "release", "pause", "admit"},
    "store": {"put_once", "put", "drop", "open", "arrive", "flag"},
    "timers": {"park"},
    "deadletters": {"bury"},
    "workers": {"beat", "leave"},
    "locks": {"acquire", "renew", "release"},
    "settler": {"settle"},
}
"""Calls that may be made again when their reply was lost: what they answer then says the same."""

HARMLESS = {
    "timers": {"cancel"},
    "schedules": {"save", "fire", "remove"},
    "deadletters": {"replay", "remove"},
    "locks": {"free"},
}
"""Calls that change nothing the second time, but answer so: whoever lost the first answer does not learn it again."""


class Fault:
    """What goes wrong with the calls of one test. `calls` counts those that it could have gone wrong with."""

    name: ClassVar[str]
    each_call: ClassVar[bool] = False
    """Whether the test is run again for each of its calls."""
    concerned: ClassVar[Mapping[str, set[str]]] = {}

    def __init__(self, place: int) -> None:
        self.place = place
        self.calls = 0

    def between(self, backend: Backend) -> Backend:
        """Put the fault between a test and a client."""
        return backend if not self.concerned else _Client(backend, self)  # type: ignore[return-value]  # by __getattr__

    async def call(self, name: str, method: Any, args: Any, kwargs: Any) -> Any:
        """Make a call as the fault has it."""
        return await method(*args, **kwargs)


class Plain(Fault):
    """Nothing goes wrong."""

    name = "plain"


class Doubled(Fault):
    """Every call arrives twice."""

    name = "doubled"
    concerned = MappingProxyType(
        {port: ANSWERED_ALIKE.get(port, set()) | HARMLESS.get(port, set()) for port in {*ANSWERED_ALIKE, *HARMLESS}}
    )

    async def call(self, name: str, method: Any, args: Any, kwargs: Any) -> Any:
        self.calls += 1
        answer = await method(*args, **kwargs)
        await method(*args, **kwargs)
        return answer


class ReplyLost(Fault):
    """One call is carried out, its reply is lost, and the caller makes it again."""

    name = "reply_lost"
    each_call = True
    concerned = MappingProxyType(ANSWERED_ALIKE)

    async def call(self, name: str, method: Any, args: Any, kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == self.place:
            await method(*args, **kwargs)
            return _as_first(name, args, await method(*args, **kwargs))
        return await method(*args, **kwargs)


def _as_first(name: str, args: Any, answer: Any) -> Any:
    """Read the second answer as every caller must: what is mine already was written by me."""
    match name:
        case "put_once":
            return [None if stored == record.value else stored for record, stored in zip(args[0], answer, strict=True)]
        case "settle":
            return [Reply(reply.conflicts) for reply in answer]
        case _:
            return answer


faults: Mapping[str, type[Fault]] = {kind.name: kind for kind in (Plain, Doubled, ReplyLost)}
"""By name."""


@attrs.frozen
class _Client:
    """A client whose ports have the fault."""

    backend: Any
    fault: Fault

    def __getattr__(self, name: str) -> Any:
        port = getattr(self.backend, name)
        concerned = self.fault.concerned.get(name)
        return port if concerned is None else _Port(port, self.fault, frozenset(concerned))


@attrs.frozen
class _Port:
    port: Any
    fault: Fault
    concerned: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.port, name)
        if name not in self.concerned:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self.fault.call(name, method, args, kwargs)

        return call
