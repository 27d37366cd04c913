from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from motet_folder import open

from motet.conformance import WorkersContract  # at the end: BackendContract, which is all of them
from motet.ports import Settings


class TestFolder(WorkersContract):
    folder = Path(mkdtemp(prefix="motet-folder-"))

    def connect(self, settings: Settings) -> AbstractAsyncContextManager[Any]:
        return open(f"folder://{self.folder}", settings)
