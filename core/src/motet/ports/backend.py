"""All ports of one broker, opened together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol, TypeAlias

import attrs

from motet.capabilities import Capabilities
from motet.ports.ambient import Clock, SystemClock
from motet.ports.locks import Locks
from motet.ports.settler import Settler
from motet.ports.signals import Signals
from motet.ports.store import Store
from motet.ports.timers import Timers
from motet.ports.transport import Transport

__all__ = ["Backend", "Opener", "Settings"]


@attrs.frozen(kw_only=True)
class Settings:
    """What every backend is told when it is opened."""

    namespace: str = "motet"
    lease: timedelta = timedelta(seconds=15)
    timeout: timedelta = timedelta(seconds=5)
    clock: Clock = attrs.field(factory=SystemClock)


class Backend(Protocol):
    """One broker, seen through the ports. Only `locks` is optional, by capability."""

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


Opener: TypeAlias = Callable[[str, Settings], AbstractAsyncContextManager[Backend]]
"""What the entry-point group `motet.backends` names for each URL scheme."""
