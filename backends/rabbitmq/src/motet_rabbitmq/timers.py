"""Port D on RabbitMQ: the registers keep parked parcels, and their owners' ticks bring them into their lanes."""

from __future__ import annotations

from collections.abc import Sequence

from motet.engine.wellformed import check_text
from motet.message import Parcel
from motet.ports import Timers
from motet_rabbitmq.letters import Letters, run_of
from motet_rabbitmq.transport import RabbitTransport

__all__ = ["RabbitTimers"]


class RabbitTimers:
    """One client's timers: the transport parks what has a due time."""

    def __init__(self, transport: RabbitTransport) -> None:
        self.transport = transport

    async def park(self, parcels: Sequence[Parcel]) -> None:
        await self.transport.publish(parcels)

    async def cancel(self, ids: Sequence[str]) -> list[bool]:
        asking = self.transport.asking
        asking.check()
        check_text(*ids)
        answers: dict[str, bool] = {}
        for name in ids:
            home = self.transport.shard(run_of(name))
            [gone] = await asking.ask(home, Letters.cancel, [name])
            if not gone:
                # What was admitted by a key, or published by another run, is in that one's register.
                others = [shard for shard in self.transport.names.all if shard != home]
                found = await self.transport.everywhere(asking.ask(shard, Letters.cancel, [name]) for shard in others)
                gone = [True] in found
            answers[name] = gone
        return [answers[name] for name in ids]


_: type[Timers] = RabbitTimers
