"""motet-nats keeps every clause of every port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar

import anyio
import missing
import pytest
from nats_server import NatsServer, NoServer, RunningServer, server_for

from motet.conformance import BackendContract
from motet.ports import Backend, Settings
from motet_nats import open as open_nats


class TestNats(BackendContract):
    server: ClassVar[RunningServer]

    @pytest.fixture(autouse=True)
    @classmethod
    def _server(cls, tmp_path: Path) -> Iterator[None]:
        """A server for each test: each lane has a consumer, and a test has lanes of its own, thousands in all."""
        try:
            made = server_for(tmp_path)
        except NoServer as none:
            missing.skip("nats", none)
        with made as cls.server:
            yield

    def connect(self, settings: Settings) -> AbstractAsyncContextManager[Backend]:
        return open_nats(self.server.url, settings)

    async def restart(self) -> None:
        """Kill the server, and start it on what its folder holds."""
        if not isinstance(self.server, NatsServer):
            await super().restart()  # somebody else's: that this is unproven is for the contract to say
        else:
            await anyio.to_thread.run_sync(self.server.restart)
