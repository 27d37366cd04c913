from pathlib import Path
from tempfile import mkdtemp

from motet.conformance import WorkersContract  # at the end: BackendContract, which is all of them
from motet.ports import Settings
from motet_folder import open


class TestFolder(WorkersContract):
    folder = Path(mkdtemp(prefix="motet-folder-"))

    def connect(self, settings: Settings):
        return open(f"folder://{self.folder}", settings)
