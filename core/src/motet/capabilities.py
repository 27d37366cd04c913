"""What a backend can do beyond the core set. Production code reads it; the conformance suite proves it both ways."""

from __future__ import annotations

import attrs

__all__ = ["Capabilities"]


@attrs.frozen(kw_only=True)
class Capabilities:
    """Declared by each backend. What is not declared raises `NotSupported` and does nothing."""

    name: str
    """How errors and `motet doctor` call the backend."""

    shared: bool = True
    """Several processes see the same state. Memory does not: its runs live in one process."""

    atomic: bool = False
    """A settlement, or a submitted run, is applied whole or not at all."""

    lease: bool = True
    """A delivery is held for a time and renewed; without it, held for as long as the connection lives."""

    locks: bool = False
    """The `locks` port works."""

    events: bool = False
    """The `events` port works."""

    durable: bool = True
    """What was accepted survives the death of every process that uses it."""
