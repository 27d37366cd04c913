"""motet-sqlite keeps every clause of every port."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

from motet.conformance import BackendContract
from motet.ports import Backend, Settings
from motet_sqlite import open as open_sqlite

CRASH = """
import sqlite3, sys, time
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("BEGIN EXCLUSIVE")
for (table,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
    file.execute(f"DELETE FROM {table}")
print("deleted", flush=True)
time.sleep(60)
"""


class TestSqlite(BackendContract):
    folder: Path

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _file(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = tmp_path_factory.mktemp("conformance")

    def connect(self, settings: Settings) -> AbstractAsyncContextManager[Backend]:
        return open_sqlite(f"sqlite:///{self.folder}/motet.db?synchronous=normal", settings)

    async def restart(self) -> None:
        """There is no server: what comes nearest is a process that has the file, half changed, and is killed."""
        command = [sys.executable, "-c", CRASH, str(self.folder / "motet.db")]
        async with await anyio.open_process(command) as process:
            assert process.stdout is not None
            assert (await process.stdout.receive()).startswith(b"deleted")
            await anyio.sleep(0.2)
            process.kill()
