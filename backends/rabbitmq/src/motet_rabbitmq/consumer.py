"""A consumer: what the broker pushes is taken in batches."""

from __future__ import annotations

from motet_rabbitmq.frames import Delivery

__all__ = ["Consumer"]


class Consumer:
    """Deliveries of one queue, in the broker's order. Made by `Channel.consume`."""

    tag: str
    queue: str

    async def batch(self, limit: int | None = None) -> list[Delivery]:
        """Wait for at least one delivery, and return all that have come, `limit` at most.

        Cancelling it loses nothing. What came before the channel died is not returned any more: it comes again.

        Raises:
            ConsumerGone: The broker ended the consumer.
            Lost: The channel or the connection ended.
        """
        raise NotImplementedError

    def waiting(self) -> int:
        """Count the deliveries that `batch` would return at once."""
        raise NotImplementedError

    async def cancel(self) -> list[Delivery]:
        """Stop; return what has come and was not taken, which the channel still holds."""
        raise NotImplementedError
