"""A channel: publishing, consuming and settling, in order, on one connection until that ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from motet_rabbitmq.consumer import Consumer
from motet_rabbitmq.frames import Delivery, Frame

__all__ = ["Channel", "Mode"]

Mode = Literal["confirm", "tx", "plain"]


class Channel:
    """Made by `Link.channel`. After the first failure it is dead for good; whoever waits on it is told at once."""

    generation: int
    """That of the connection; a delivery's tag is valid on the channel that it came on only."""
    mode: Mode

    @property
    def alive(self) -> bool:
        raise NotImplementedError

    async def publish(self, frames: Sequence[Frame], *, timeout: float | None = None) -> None:
        """Publish in one write, with whatever else goes out in this turn of the loop; return once all are confirmed.

        On a channel in mode "confirm". Of what many tasks publish at once each waits for its own only.

        Raises:
            Unroutable: Some had no queue; the others are stored.
            Blocked: The broker takes no messages; nothing was sent, or it was not confirmed in time.
            Lost: The channel ended; some may be stored.
            Unavailable: Not confirmed in time, or refused by a queue (nack); some may be stored.
            TooLarge: More than the broker takes.
            Missing: No such exchange. The channel is dead.
        """
        raise NotImplementedError

    async def commit(self, frames: Sequence[Frame], tags: Iterable[int], *, timeout: float | None = None) -> None:
        """Publish and acknowledge in one transaction and one write, on a channel in mode "tx".

        One commit at a time; others wait. On failure the channel is dead: nothing was done, or all of it.

        Raises:
            Unroutable: A mandatory message had no queue; the rest *is* committed.
            Blocked: The broker takes no messages; nothing was sent.
            Lost: The channel ended, perhaps after the commit.
            Unavailable: No answer in time.
        """
        raise NotImplementedError

    async def consume(
        self,
        queue: str,
        *,
        prefetch: int | None = None,
        arguments: Mapping[str, Any] | None = None,
        no_ack: bool = False,
        exclusive: bool = False,
    ) -> Consumer:
        """Have the broker push: `prefetch` unsettled deliveries at most, 1 to 65535 (default: the channel's).

        Raises:
            Missing: No such queue. The channel is dead.
            Locked: Another consumer is exclusive. The channel is dead.
        """
        raise NotImplementedError

    async def prefetch(self, count: int) -> None:
        """Set the limit of consumers that start from now on, 1 to 65535."""
        raise NotImplementedError

    def ack(self, tags: Iterable[int]) -> None:
        """Forget deliveries for good. It is sent in this turn of the loop, and not answered; lost acks redeliver.

        Raises:
            Lost: The channel is dead; they come again.
        """
        raise NotImplementedError

    def nack(self, tags: Iterable[int], *, requeue: bool = True) -> None:
        """Give deliveries back; without `requeue` they are dead-lettered, or dropped.

        Raises:
            Lost: The channel is dead; they come again.
        """
        raise NotImplementedError

    async def get(self, queue: str, limit: int = 1, *, no_ack: bool = False) -> list[Delivery]:
        """Take what is there, without waiting for more.

        Raises:
            Missing: No such queue. The channel is dead.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """End it; what it holds goes back to the queues, in order."""
        raise NotImplementedError
