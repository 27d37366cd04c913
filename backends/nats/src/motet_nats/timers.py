"""Port D on JetStream: the server brings what is due into its lane."""

from __future__ import annotations

from collections.abc import Sequence

from motet.engine.wellformed import check_text
from motet.message import Parcel
from motet.ports import Timers
from motet_nats.gathering import together
from motet_nats.transport import NatsTransport

__all__ = ["NatsTimers"]


class NatsTimers:
    """Parks parcels: the transport does so with whatever has a due time."""

    def __init__(self, transport: NatsTransport) -> None:
        self._transport = transport

    async def park(self, parcels: Sequence[Parcel]) -> None:
        await self._transport.publish(parcels)

    async def cancel(self, ids: Sequence[str]) -> list[bool]:
        self._transport.client.check()
        check_text(*ids)
        return await together([self._transport.cancel(name) for name in ids])


_: type[Timers] = NatsTimers
