"""Port W on JetStream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from motet.engine.wellformed import check_each, check_text
from motet.ports import Present, Workers
from motet_nats.names import plain
from motet_nats.records import Records

__all__ = ["NatsWorkers"]


class NatsWorkers:
    """Keeps the roll: a record for each, with its time to live."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._names = records.client.names

    async def beat(self, worker: Present, ttl: timedelta) -> None:
        self._records.client.check()
        check_each((worker,), Present)
        await self._records.write(self._names.record("w", worker.id), worker.about, ttl)

    async def leave(self, id: str) -> None:
        self._records.client.check()
        check_text(id)
        await self._records.remove(self._names.record("w", id))

    async def present(self) -> list[Present]:
        self._records.client.check()
        found: Sequence[Present] = [
            Present(plain(stored.subject.rpartition(".")[2]), kept.value)
            for stored in await self._records.streams.scan(self._names.records, f"{self._names.kept}.w.*")
            if (kept := self._records.alive(stored)) is not None
        ]
        return sorted(found, key=lambda worker: worker.id)


_: type[Workers] = NatsWorkers
