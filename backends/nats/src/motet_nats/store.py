"""Port S on JetStream.

`k.o.<run>.<name>` is a record, but `k.r.<run>` the one called `r`; `k.c.<run>.<name>` a counter; `k.v.<run>.*` are
parts of large values; `k.b.<run>.<name>.s.*` is a barrier, `k.b.<run>.<name>.a.<slot>.<failed>` what has arrived there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from motet.engine.wellformed import check_count, check_each, check_keys, check_program, check_text
from motet.errors import MotetError, UsageError
from motet.message import Key
from motet.ports import Barrier, Store
from motet.program import Arrival, Flag, Once, Open, Put
from motet_nats.barriers import Barriers
from motet_nats.client import Client
from motet_nats.errors import refuse
from motet_nats.gathering import together
from motet_nats.names import plain
from motet_nats.news import News
from motet_nats.records import Records
from motet_nats.streams import Stored, Streams
from motet_nats.wire import pack

__all__ = ["NatsStore"]

HOUR = timedelta(hours=1)
RUN = "r"
WINDOW = 1000
"""Sequences that are looked through at first for the newest runs; four times as many each time after."""

_flag = msgspec.msgpack.Decoder(tuple[str, str, int, int])


class NatsStore:
    """Keeps records, one message for each."""

    def __init__(self, client: Client, streams: Streams, records: Records, news: News) -> None:
        self.client = client
        self.streams = streams
        self.records = records
        self.news = news
        self._names = client.names
        self._barriers = Barriers(client, streams, records)

    def subject(self, key: Key) -> str:
        """Where a record is."""
        return self._names.record("r", key.run) if key.name == RUN else self._names.record("o", *key)

    # Records.

    async def put_once(self, records: Sequence[Once]) -> list[bytes | None]:
        self.client.check()
        check_program(records)
        answers = await self.decide(records)
        refuse(answers, self.client.location.name)
        return [answer for answer in answers if not isinstance(answer, MotetError)]

    async def decide(self, records: Sequence[Once]) -> list[bytes | MotetError | None]:
        """Write records where nothing is, and answer for each what is there, None for nothing, or why not."""
        if len(records) != 1:
            return await self.records.write_all([(self.subject(each.key), each.value, each.ttl) for each in records])
        [only] = records
        return [await self.records.write_once(self.subject(only.key), only.value, only.ttl)]

    async def put(self, records: Sequence[Put]) -> None:
        self.client.check()
        check_program(records)
        await together([self.records.write(self.subject(record.key), record.value, record.ttl) for record in records])

    async def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        self.client.check()
        check_keys(keys)
        return await together([self._get(self.subject(key)) for key in keys])

    async def _get(self, subject: str) -> bytes | None:
        async def read() -> bytes | None:
            return (await self.records.read(subject)).value

        return await self.news.sooner(subject, read)

    async def drop(self, keys: Sequence[Key]) -> None:
        self.client.check()
        check_keys(keys)
        await together([self.records.remove(self.subject(key)) for key in keys])

    async def add(self, key: Key, amount: int, ttl: timedelta | None = None) -> int:
        self.client.check()
        check_keys((key,))
        if type(amount) is not int:
            raise UsageError(f"a counter counts integers, not {amount!r}")
        return await self.records.add(self._names.record("c", *key), amount, ttl)

    async def _living(self, subject: str) -> list[Stored]:
        stored = await self.streams.scan(self._names.records, subject)
        return [each for each in stored if self.records.alive(each) is not None]

    # Barriers.

    async def open(self, barriers: Sequence[Open]) -> None:
        self.client.check()
        check_each(barriers, Open)
        await together([self._barriers.open(barrier) for barrier in barriers])

    async def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        self.client.check()
        check_keys((key,))
        check_count(slot, "slot")
        check_count(failed, "failed")
        return await self._barriers.arrive(key, slot, failed)

    async def barriers(self, keys: Sequence[Key]) -> list[Barrier | None]:
        self.client.check()
        check_keys(keys)
        return await together([self._barriers.read(key) for key in keys])

    # Flags.

    async def flag(self, scopes: Sequence[Flag]) -> None:
        self.client.check()
        check_each(scopes, Flag)
        await together([self._flag(scope) for scope in scopes])

    async def _flag(self, scope: Flag) -> None:
        subject = self._names.record("f", self.client.nonce())
        await self.records.write(subject, pack((scope.run, scope.segment, scope.first, scope.last)), HOUR)

    async def flags(self, since: str | None) -> tuple[str, list[Flag]]:
        self.client.check()
        if since is not None and not (type(since) is str and since.isdecimal()):
            raise UsageError(f"no cursor of flags: {since!r}")
        stored = await self.streams.scan(self._names.records, f"{self._names.kept}.f.*", int(since or 0) + 1)
        living = [kept.value for each in stored if (kept := self.records.alive(each)) is not None]
        cursor = str(stored[-1].sequence) if stored else since or "0"
        return cursor, [Flag(*_flag.decode(value)) for value in living]

    # Runs.

    async def names(self, run: str, prefix: str) -> list[str]:
        self.client.check()
        check_text(run, prefix)
        found = [plain(each.subject.rpartition(".")[2]) for each in await self._living(f"{self._of('o', run)}.*")]
        if RUN.startswith(prefix):
            found += [RUN for _ in await self._living(self._of("r", run))]
        return sorted(name for name in found if name.startswith(prefix))

    def _of(self, kind: str, run: str) -> str:
        return self._names.record(kind, run)

    async def sweep(self, run: str, limit: int) -> bool:
        self.client.check()
        check_text(run)
        check_count(limit, "limit", 1)
        kinds = [f"{self._of(kind, run)}.*" for kind in "ovc"] + [self._of("r", run)]
        found = [subject for kind in kinds for subject in await self.streams.subjects(self._names.records, kind)]
        await together([self.records.remove(subject) for subject in found[:limit]])
        if len(found) > limit:
            return False
        await self.records.remove(f"{self._of('b', run)}.>")
        return True

    async def runs(self, before: str | None, limit: int) -> list[tuple[str, bytes]]:
        self.client.check()
        check_count(limit, "limit")
        stream = self._names.records
        last = None if before is None else await self.streams.last(stream, self._of("r", before))
        top = last.sequence - 1 if last else int((await self.streams.info(stream))["state"]["last_seq"])
        found: list[tuple[str, bytes]] = []
        size = WINDOW
        while top > 0 and len(found) < limit:
            first = max(1, top - size + 1)
            part = await self.streams.scan(stream, f"{self._names.kept}.r.*", first, last=top)
            values = await together([self.records.read(each.subject) for each in part])
            named = [
                (plain(each.subject.rpartition(".")[2]), read.value) for each, read in zip(part, values, strict=True)
            ]
            found += [(run, value) for run, value in reversed(named) if value is not None]
            top, size = first - 1, size * 4
        return found[:limit]


_: type[Store] = NatsStore
