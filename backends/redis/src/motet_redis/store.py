"""Port S on Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from motet.engine.wellformed import check_count, check_each, check_keys, check_program, check_text
from motet.errors import UsageError
from motet.message import Key
from motet.ports import Barrier, Store
from motet.program import Arrival, Flag, Once, Open, Put
from motet_redis.client import Client
from motet_redis.scripts import Script
from motet_redis.wire import SLICE, encode, milliseconds, pairs, program, scope, slices

__all__ = ["RedisStore"]

STORE = Script.of("messages", "records", "repeats", "store")
_scope = msgspec.msgpack.Decoder(tuple[str, str, int, int])


class RedisStore:
    """Keeps records in hashes, one for each run."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked: list[tuple[list[str], asyncio.Future[list[bytes | None]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def _call(self, op: str, *arguments: Any) -> Any:
        return await self._client.call(STORE, op, encode(arguments))

    async def put_once(self, records: Sequence[Once]) -> list[bytes | None]:
        self._client.check()
        check_program(records)
        return [stored for part in slices(records) for stored in await self._call("put_once", program(part))]

    async def put(self, records: Sequence[Put]) -> None:
        self._client.check()
        check_program(records)
        for part in slices(records):
            await self._call("put", program(part))

    async def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        self._client.check()
        check_keys(keys)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[bytes | None]] = loop.create_future()
        self._asked.append((_flat(keys), future))
        if len(self._asked) == 1:
            loop.call_soon(self._ask)
        return await future

    def _ask(self) -> None:
        """Read in one call what was asked for in one turn of the loop: a batch of messages asks a hundred times."""
        asked, self._asked = self._asked, []
        task = asyncio.get_running_loop().create_task(self._read(asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, asked: Sequence[tuple[list[str], asyncio.Future[list[bytes | None]]]]) -> None:
        flat = [part for keys, _ in asked for part in keys]
        try:
            found = [stored for part in slices(flat, 2 * SLICE) for stored in await self._call("get", part)]
        except BaseException as error:
            for _, future in asked:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # whoever was cancelled does not ask
            if not isinstance(error, Exception):
                raise
            return
        first = 0
        for keys, future in asked:
            if not future.done():
                future.set_result(found[first : first + len(keys) // 2])
            first += len(keys) // 2

    async def drop(self, keys: Sequence[Key]) -> None:
        self._client.check()
        check_keys(keys)
        for part in slices(keys):
            await self._call("drop", _flat(part))

    async def add(self, key: Key, amount: int, ttl: timedelta | None = None) -> int:
        self._client.check()
        check_keys((key,))
        if type(amount) is not int:
            raise UsageError(f"a counter counts integers, not {amount!r}")
        total: int = await self._call("add", secrets.token_hex(8), *key, str(amount), milliseconds(ttl))
        return total

    async def open(self, barriers: Sequence[Open]) -> None:
        self._client.check()
        check_each(barriers, Open)
        for part in slices(barriers):
            await self._call("open", program(part))

    async def arrive(self, key: Key, slot: int, failed: int) -> Arrival | None:
        self._client.check()
        check_keys((key,))
        check_count(slot, "slot")
        check_count(failed, "failed")
        level = await self._call("arrive", *key, slot, failed)
        if level is None:
            return None
        size, arrived, lost, allowed, fast = level
        return Arrival(size, arrived, lost, allowed, fast == 1)

    async def barriers(self, keys: Sequence[Key]) -> list[Barrier | None]:
        self._client.check()
        check_keys(keys)
        return [_barrier(fields) for part in slices(keys) for fields in await self._call("barriers", _flat(part))]

    async def flag(self, scopes: Sequence[Flag]) -> None:
        self._client.check()
        check_each(scopes, Flag)
        for part in slices([scope(each) for each in scopes]):
            await self._call("flag", part)

    async def flags(self, since: str | None) -> tuple[str, list[Flag]]:
        self._client.check()
        if since is not None and not (type(since) is str and since.isdecimal()):
            raise UsageError(f"no cursor of flags: {since!r}")
        last, members = await self._call("flags", since or "0")
        return last.decode(), [Flag(*_scope.decode(member.split(b":", 2)[2])) for member in members]

    async def names(self, run: str, prefix: str) -> list[str]:
        self._client.check()
        check_text(run, prefix)
        return sorted(name.decode() for name in await self._call("names", run, prefix))

    async def sweep(self, run: str, limit: int) -> bool:
        self._client.check()
        check_text(run)
        check_count(limit, "limit", 1)
        return bool(await self._call("sweep", run, limit))

    async def runs(self, before: str | None, limit: int) -> list[tuple[str, bytes]]:
        self._client.check()
        check_count(limit, "limit")
        found = await self._call("runs", before or "", limit)
        return [(run.decode(), value) for run, value in pairs(found)]


def _flat(keys: Sequence[Key]) -> list[str]:
    return [part for key in keys for part in key]


def _barrier(fields: Sequence[bytes]) -> Barrier | None:
    if not fields:
        return None
    values = {name.decode(): int(value) for name, value in pairs(fields)}
    size, failed, max_failed, fast = (values.pop(name) for name in ("s", "x", "m", "f"))
    arrived = sorted(map(int, values), key=lambda slot: values[str(slot)])
    return Barrier(size, tuple(arrived), failed, max_failed, fast == 1)


_: type[Store] = RedisStore
