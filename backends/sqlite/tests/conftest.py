import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest

import motet_sqlite
from motet.ports import Settings
from motet_sqlite import SqliteBackend

Connect = Callable[..., AbstractAsyncContextManager[SqliteBackend]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path() -> Iterator[Path]:
    """A file in a folder with a short name: a socket beside it must fit into 108 bytes, also below pytest-xdist."""
    with tempfile.TemporaryDirectory(prefix="motet-") as folder:
        yield Path(folder, "motet.db")


@pytest.fixture
def connect(path: Path) -> Connect:
    """Return a factory: one more client of the same file, with settings of its own."""

    def make(*, query: str = "", lease: float = 15, timeout: float = 5, **settings: object) -> object:
        made = Settings(lease=timedelta(seconds=lease), timeout=timedelta(seconds=timeout), **settings)  # type: ignore[arg-type]
        return motet_sqlite.open(f"sqlite:///{path}{query}", made)

    return make  # type: ignore[return-value]
