"""Port W on RabbitMQ: the control shard's roll."""

from __future__ import annotations

from datetime import timedelta

from motet.engine.wellformed import check_each, check_text
from motet.ports import Present, Workers
from motet_rabbitmq.asking import Asking
from motet_rabbitmq.machine import CONTROL
from motet_rabbitmq.roll import Roll

__all__ = ["RabbitWorkers"]


class RabbitWorkers:
    """One client's view of the roll."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking

    async def beat(self, worker: Present, ttl: timedelta) -> None:
        self.asking.check()
        check_each((worker,), Present)
        await self.asking.ask(CONTROL, Roll.beat, worker.id, worker.about, ttl.total_seconds())

    async def leave(self, id: str) -> None:
        self.asking.check()
        check_text(id)
        await self.asking.ask(CONTROL, Roll.leave, id)

    async def present(self) -> list[Present]:
        self.asking.check()
        return [Present(name, about) for name, about in await self.asking.ask(CONTROL, Roll.present)]


_: type[Workers] = RabbitWorkers
