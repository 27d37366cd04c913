"""Port D on Redis."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from motet.engine.wellformed import check_text
from motet.message import Parcel
from motet.ports import Timers
from motet_redis.bells import TRANSPORT
from motet_redis.transport import RedisTransport
from motet_redis.wire import slices

__all__ = ["RedisTimers"]


class RedisTimers:
    """One client's timers: the transport parks what has a due time."""

    def __init__(self, transport: RedisTransport) -> None:
        self._transport = transport

    async def park(self, parcels: Sequence[Parcel]) -> None:
        await self._transport.publish(parcels)

    async def cancel(self, ids: Sequence[str]) -> list[bool]:
        client = self._transport.client
        client.check()
        check_text(*ids)
        return [
            gone == 1
            for part in slices(ids)
            for gone in await client.call(TRANSPORT, "cancel", secrets.token_hex(8), *part)
        ]


_: type[Timers] = RedisTimers
