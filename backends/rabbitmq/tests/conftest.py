from collections.abc import Iterator

import missing
import pytest
from rabbitmq_server import NoServer, RabbitServer, RunningServer, server_for


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


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A server for the tests of one file, which may kill and pause it; it takes seconds to start."""
    with made(tmp_path_factory) as running:
        if not isinstance(running, RabbitServer):
            pytest.skip("a server that somebody else started is not ours to kill")
        yield running


def made(places: pytest.TempPathFactory) -> RunningServer:
    try:
        return server_for(places.mktemp("rabbitmq"))
    except NoServer as none:
        missing.skip("rabbitmq", none)
