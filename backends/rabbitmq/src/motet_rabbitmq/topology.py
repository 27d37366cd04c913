"""Queues, exchanges and bindings: asked on a channel of their own, because a refusal closes the channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["QueueState", "Topology"]


class QueueState(msgspec.Struct, frozen=True):
    """A queue as it is now."""

    name: str
    ready: int
    """Messages that nobody holds."""
    consumers: int


class Topology:
    """Made by a `Link`, as `link.topology`. Each call is repeated over reconnects until the link's timeout.

    Every call raises `Unavailable` without an answer in time, and `Rejected` without the right to it.
    """

    async def declare_queue(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
    ) -> QueueState:
        """Make a queue, unless it is there; the empty name has the broker choose one.

        Raises:
            Foreign: It is there with other arguments.
            Locked: It is another connection's alone.
        """
        raise NotImplementedError

    async def declare_queues(self, wanted: Mapping[str, Mapping[str, Any]]) -> list[QueueState]:
        """Make many durable queues in few round trips."""
        raise NotImplementedError

    async def look(self, name: str) -> QueueState | None:
        """Say how a queue is; None when there is none."""
        raise NotImplementedError

    async def declare_exchange(
        self, name: str, kind: str = "topic", arguments: Mapping[str, Any] | None = None, *, durable: bool = True
    ) -> None:
        """Make an exchange, unless it is there.

        Raises:
            Foreign: It is there, and is another kind.
        """
        raise NotImplementedError

    async def bind(self, queue: str, exchange: str, key: str = "", arguments: Mapping[str, Any] | None = None) -> None:
        """Have an exchange pass on to a queue.

        Raises:
            Missing: One of them is not there.
        """
        raise NotImplementedError

    async def unbind(self, queue: str, exchange: str, key: str = "") -> None:
        """Undo `bind`; what is not bound is no error."""
        raise NotImplementedError

    async def bind_exchange(self, target: str, source: str, key: str = "") -> None:
        """Have an exchange pass on to another."""
        raise NotImplementedError

    async def delete_queue(self, name: str, *, if_empty: bool = False, if_unused: bool = False) -> int:
        """Delete a queue, and say how many messages were in it; one that is not there has none.

        Raises:
            Foreign: It is not empty, or is used.
        """
        raise NotImplementedError

    async def delete_exchange(self, name: str) -> None:
        """Delete an exchange; one that is not there is no error."""
        raise NotImplementedError

    async def purge(self, name: str) -> int:
        """Drop the messages of a queue that nobody holds, and count them.

        Raises:
            Missing: No such queue.
        """
        raise NotImplementedError
