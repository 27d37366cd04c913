"""motet-nats keeps every clause of every port, on each server that it is run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import anyio
import missing
import pytest
from nats_cluster import NatsCluster
from nats_server import Kind, NatsServer, NoServer, RunningServer, kinds, server_for

from motet.conformance import BackendContract
from motet.ports import Backend, Settings
from motet_nats import open as open_nats

OF_CLUSTER: dict[str, object] = {"lease": timedelta(seconds=2), "pytestmark": pytest.mark.timeout(90)}
"""What a cluster is given more of: time. Three servers agree before each answer, here on the processors of one machine.

Measured on two that others used too: up to 9 s until those are elected who lead when it is started; 5 to 13 s for
the 61 stages of B6 in which each reply is lost in turn, with 183 lanes for which somebody is elected (3 s on a lone
server); 1 s to remove its 7,300 files. That is one test, and more than the 20 s of all our tests. After a restart all
of them are elected again. 90 s are more than the 60 of `deadline`, which is for a single stage.
"""


class Nats(BackendContract):
    kind: ClassVar[Kind | None] = None
    server: ClassVar[RunningServer]

    @pytest.fixture(autouse=True)
    @classmethod
    def _server(cls, tmp_path: Path) -> Iterator[None]:
        """A server for each test: each lane has a consumer, and a test has lanes of its own, thousands in all."""
        with cls.made(tmp_path) as cls.server:
            if cls.kind is not None:
                assert isinstance(cls.server, NatsServer | NatsCluster)
                assert cls.server.version == cls.kind.version
            yield

    @classmethod
    def made(cls, folder: Path) -> RunningServer:
        if cls.kind is not None:
            several = cls.kind.size > 1
            return (NatsCluster if several else NatsServer)(cls.kind.program, folder)
        try:
            return server_for(folder)
        except NoServer as none:
            missing.skip("nats", none)

    def connect(self, settings: Settings) -> AbstractAsyncContextManager[Backend]:
        return open_nats(self.server.url, settings)

    async def restart(self) -> None:
        """Kill the server, or all of a cluster, and start it on what its folder holds."""
        if not isinstance(self.server, NatsServer | NatsCluster):
            await super().restart()  # somebody else's: that this is unproven is for the contract to say
        else:
            await anyio.to_thread.run_sync(self.server.restart)


for each in kinds():
    # A class for each, so that the report has a column for each.
    words = each.name.replace(".", "").split("-") if each else ()
    name = f"TestNats{''.join(word.capitalize() for word in words if word != 'nats')}"
    patience = OF_CLUSTER if each and each.size > 1 else {}
    globals()[name] = type(name, (Nats,), {"kind": each, "__module__": __name__, **patience})
