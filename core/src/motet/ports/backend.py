"""All ports of one broker, opened together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol, TypeAlias

import attrs

from motet.capabilities import Capabilities
from motet.ports.ambient import Clock, SystemClock
from motet.ports.deadletters import DeadLetters
from motet.ports.events import Events
from motet.ports.locks import Locks
from motet.ports.schedules import Schedules
from motet.ports.settler import Settler
from motet.ports.signals import Signals
from motet.ports.store import Store
from motet.ports.timers import Timers
from motet.ports.transport import Transport
from motet.ports.workers import Workers

__all__ = ["Backend", "Opener", "Settings"]


@attrs.frozen(kw_only=True)
class Settings:
    """What every backend is told when it is opened. A call that takes longer than `timeout` fails as `Unavailable`."""

    namespace: str = "motet"
    lease: timedelta = timedelta(seconds=15)
    timeout: timedelta = timedelta(seconds=5)
    clock: Clock = attrs.field(factory=SystemClock)


class Backend(Protocol):
    """One broker, seen through the ports. `locks` and `events` are optional, by capability.

    B1. A capability that is not declared raises `NotSupported` and does nothing; one that is declared works.
    B2. No exception of a driver crosses a port: whatever fails, fails with a `MotetError`, and other calls go on.
    B3. Namespaces do not see each other.
    B4. Two clients see the same, and one that is closed leaves the others as they are; it refuses further calls.
    B5. With `durable`, what was accepted survives a restart of the broker, and open clients carry on.
    B6. Calls may be made at once from any number of coroutines of a client.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    @property
    def transport(self) -> Transport:
        """Port T."""
        ...

    @property
    def store(self) -> Store:
        """Port S."""
        ...

    @property
    def timers(self) -> Timers:
        """Port D."""
        ...

    @property
    def schedules(self) -> Schedules:
        """Port C."""
        ...

    @property
    def deadletters(self) -> DeadLetters:
        """Port X."""
        ...

    @property
    def workers(self) -> Workers:
        """Port W."""
        ...

    @property
    def signals(self) -> Signals:
        """Port N."""
        ...

    @property
    def settler(self) -> Settler:
        """Port P."""
        ...

    @property
    def locks(self) -> Locks:
        """Port L.

        Raises:
            NotSupported: The capability is not declared.
        """
        ...

    @property
    def events(self) -> Events:
        """Port E.

        Raises:
            NotSupported: The capability is not declared.
        """
        ...


Opener: TypeAlias = Callable[[str, Settings], AbstractAsyncContextManager[Backend]]
"""What the entry-point group `motet.backends` names for each URL scheme."""
