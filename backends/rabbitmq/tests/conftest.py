from collections.abc import Iterator
from pathlib import Path

import missing
import pytest
from rabbitmq_server import Kind, NoServer, RabbitServer, RunningServer, kinds, server_for


def pytest_configure(config: pytest.Config) -> None:
    missing.watch(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the broker killed first, while it has little to recover: four hundred tests leave it much."""
    suite = Path(__file__).with_name("test_conformance.py")
    places = [place for place, item in enumerate(items) if item.path == suite]
    ordered = sorted((items[place] for place in places), key=lambda item: "test_b5" not in item.name)
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", params=kinds(), ids=lambda kind: kind.name if kind else "default")
def kind(request: pytest.FixtureRequest) -> Kind | None:
    """A server of the matrix; without one, whichever is found."""
    given: Kind | None = request.param
    return given


@pytest.fixture(scope="session")
def server(kind: Kind | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that is shared by all tests, each with queues of its own; it is not to be harmed."""
    with made(kind, tmp_path_factory) as running:
        yield running


@pytest.fixture(scope="module")
def file_server(kind: Kind | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A server for the tests of one file, which may kill it; a start takes seconds."""
    with made(kind, tmp_path_factory) as running:
        if not isinstance(running, RabbitServer):
            pytest.skip("a server that somebody else started is not ours to kill")
        yield running


@pytest.fixture
def own_server(kind: Kind | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A server for this test, which may kill and pause it."""
    with made(kind, tmp_path_factory) as running:
        if not isinstance(running, RabbitServer):
            pytest.skip("a server that somebody else started is not ours to kill")
        yield running


def made(kind: Kind | None, places: pytest.TempPathFactory) -> RunningServer:
    try:
        return server_for(kind, places.mktemp("rabbitmq"))
    except NoServer as none:
        missing.skip("rabbitmq", none)
