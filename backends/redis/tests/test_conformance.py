"""motet-redis keeps every clause of every port, on each server that it is run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import anyio
import missing
import pytest
from redis_server import Kind, NoServer, RedisServer, RunningServer, kinds, server_for

from motet.conformance import BackendContract
from motet.ports import Backend, Settings
from motet_redis import open as open_redis


class Redis(BackendContract):
    kind: ClassVar[Kind | None] = None
    server: ClassVar[RunningServer]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        try:
            made = server_for(cls.kind, tmp_path_factory.mktemp("redis"))
        except NoServer as none:
            missing.skip("redis", none)
        with made as cls.server:
            yield

    def connect(self, settings: Settings) -> AbstractAsyncContextManager[Backend]:
        return open_redis(self.server.url, settings)

    async def restart(self) -> None:
        """Kill the server, and start it on what its log of commands holds."""
        if not isinstance(self.server, RedisServer):
            await super().restart()  # somebody else's: that this is unproven is for the contract to say
        else:
            await anyio.to_thread.run_sync(self.server.restart)


for each in kinds():
    # A class for each, so that the report has a column for each.
    words = each.name.replace(".", "").split("-") if each else ()
    name = f"TestRedis{''.join(word.capitalize() for word in words if word != 'redis')}"
    globals()[name] = type(name, (Redis,), {"kind": each, "__module__": __name__})
