"""One connection with its own reconnect: several brokers in turn, for as long as somebody asks."""

from __future__ import annotations

from motet_rabbitmq.channel import Channel, Mode
from motet_rabbitmq.location import Location
from motet_rabbitmq.topology import Topology

__all__ = ["Link"]


class Link:
    """A connection that is made when it is first needed, and made anew when it has ended. It belongs to one event loop."""

    topology: Topology
    generation: int
    """How many connections there have been. Channels, tags and exclusive queues die with theirs."""

    def __init__(self, location: Location, *, timeout: float = 5.0, label: str = "motet") -> None:
        """`timeout` is in seconds, for each call; `label` is what the broker's lists call the connection."""
        raise NotImplementedError

    @property
    def blocked(self) -> str:
        """Which alarm makes the broker refuse messages; nothing when it takes them."""
        raise NotImplementedError

    @property
    def version(self) -> str:
        """What the broker reported when we connected, such as "3.10.8"."""
        raise NotImplementedError

    async def connect(self) -> int:
        """See to it that there is a connection, and return its generation.

        Raises:
            Rejected: Wrong password, no such vhost, TLS.
            Unavailable: Nobody answered within the timeout; it goes on trying.
        """
        raise NotImplementedError

    async def channel(self, *, prefetch: int | None = None, mode: Mode = "plain") -> Channel:
        """Open a channel on the connection there is, or on the next.

        Raises:
            Rejected: As by `connect`.
            Unavailable: As by `connect`.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Hang up for good; whatever waits is told `Lost`."""
        raise NotImplementedError
