from collections.abc import AsyncIterator, Iterator
from itertools import count

import missing
import pytest
from nats_server import NatsServer, NoServer, RunningServer, server_for

from motet.ports import Settings
from motet_nats import NatsBackend
from motet_nats import open as open_nats

numbers = count()


def pytest_configure(config: pytest.Config) -> None:
    missing.watch(config)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that is shared by all tests, each in a namespace of its own; it is not to be harmed."""
    with made(tmp_path_factory) as running:
        yield running


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server for this test, which may kill and pause it."""
    with made(tmp_path_factory) as running:
        if not isinstance(running, NatsServer):
            pytest.skip("a server that somebody else started is not ours to kill")
        yield running


@pytest.fixture
async def worker(server: RunningServer) -> AsyncIterator[NatsBackend]:
    """One of two connections to a namespace that nobody else uses."""
    async with open_nats(server.url, Settings(namespace=f"pair{next(numbers)}")) as backend:
        yield backend


@pytest.fixture
async def client(server: RunningServer, worker: NatsBackend) -> AsyncIterator[NatsBackend]:
    """The other one."""
    async with open_nats(server.url, worker.client.settings) as backend:
        yield backend


def made(places: pytest.TempPathFactory) -> RunningServer:
    try:
        return server_for(places.mktemp("nats"))
    except NoServer as none:
        missing.skip("nats", none)
