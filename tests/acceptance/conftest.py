from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer, program

from motet import Motet

BACKENDS = ["memory", "ordered", "sqlite", "redis"]


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough here: the unit tests run the worker on both."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests."""
    with RedisServer(program(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A backend of each kind, empty for each test."""
    if request.param == "redis":
        pytest.importorskip("motet_redis")
        server: RedisServer = request.getfixturevalue("redis")
        server.command("FLUSHALL")
        return server.url
    if request.param == "sqlite":
        pytest.importorskip("motet_sqlite")
        return f"sqlite:///{tmp_path}/motet.db"
    return "memory://" if request.param == "memory" else "memory://?settle=ordered"


@pytest.fixture
def make(url: str) -> Callable[..., Motet]:
    """Make apps on the backend of this test."""
    return lambda **settings: Motet(url, **{"lease": 1, **settings})


@pytest.fixture
def app(make: Callable[..., Motet]) -> Motet:
    return make()


@pytest.fixture
def calls() -> list[Any]:
    """What tasks note down."""
    return []
