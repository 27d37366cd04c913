"""Faults of a network, put between a test and a backend: calls that arrive twice, and replies that do not arrive."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar

import attrs

from motet.message import Parcel
from motet.ports import Backend, Clock, Delivery, Reply

__all__ = ["Copied", "Fault", "Plain", "faults"]

COPY = "copy"
LATE = timedelta(seconds=0.3)

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

    name: ClassVar[str] = ""
    each_call: ClassVar[bool] = False
    """Whether the test is run again for each of its calls."""
    concerned: ClassVar[Mapping[str, set[str]]] = {}

    def __init__(self, place: int) -> None:
        self.place = place
        self.calls = 0

    def between(self, backend: Backend) -> Backend:
        """Put the fault between a test and a client."""
        client: Any = _Client(backend, self)
        faulty: Backend = client if self.concerned else backend
        return faulty

    async def call(self, port: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Make a call as the fault has it."""
        return await getattr(port, name)(*args, **kwargs)


class Plain(Fault):
    """Nothing goes wrong."""

    name: ClassVar[str] = "plain"


class Doubled(Fault):
    """Every call arrives twice."""

    name: ClassVar[str] = "doubled"
    concerned: ClassVar[Mapping[str, set[str]]] = MappingProxyType(
        {port: ANSWERED_ALIKE.get(port, set()) | HARMLESS.get(port, set()) for port in {*ANSWERED_ALIKE, *HARMLESS}}
    )

    async def call(self, port: Any, name: str, args: Any, kwargs: Any) -> Any:
        self.calls += 1
        answer = await super().call(port, name, args, kwargs)
        await super().call(port, name, args, kwargs)
        return answer


class ReplyLost(Fault):
    """One call is carried out, its reply is lost, and the caller makes it again."""

    name: ClassVar[str] = "reply_lost"
    each_call: ClassVar[bool] = True
    concerned: ClassVar[Mapping[str, set[str]]] = MappingProxyType(ANSWERED_ALIKE)

    async def call(self, port: Any, name: str, args: Any, kwargs: Any) -> Any:
        self.calls += 1
        answer = await super().call(port, name, args, kwargs)
        if self.calls != self.place:
            return answer
        return _as_first(name, args, await super().call(port, name, args, kwargs))


class Copied(Fault):
    """Every message is delivered, and afterwards its copy, beside it or when all is over; `calls` counts the copies.

    `fresh` are the ids of those that are said not to have run before.
    """

    name: ClassVar[str] = "copied"
    concerned: ClassVar[Mapping[str, set[str]]] = MappingProxyType({"transport": {"receive"}})

    def __init__(self, clock: Clock) -> None:
        super().__init__(0)
        self.clock = clock
        self.fresh: list[str] = []

    async def call(self, port: Any, name: str, args: Any, kwargs: Any) -> Any:
        taken: list[Delivery] = await super().call(port, name, args, kwargs)
        new = [each for each in taken if not each.id.endswith(COPY) and each.deliveries == 1]
        self.calls += len(new)
        self.fresh += [each.id for each in new if not each.suspect]
        for number, each in enumerate(new, self.calls):
            later = self.clock.now() + LATE if number % 2 else None
            await port.publish([Parcel(each.id + COPY, each.lane, each.body, later, suspect=True)])
        return taken


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
        if name not in self.concerned:
            return getattr(self.port, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self.fault.call(self.port, name, args, kwargs)

        return call
