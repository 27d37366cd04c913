from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from motet.capabilities import Capabilities
from motet.errors import BadBackend, NotSupported
from motet.ports import Events, Locks, Settings
from motet_folder.errors import Client
from motet_folder.workers import FolderWorkers


@asynccontextmanager
async def open(url: str, settings: Settings) -> AsyncGenerator["FolderBackend", None]:
    """Open `folder:///absolute/path`."""
    path = urlsplit(url).path
    if not path.strip("/"):
        raise BadBackend(f"{url} names no folder: write folder:///absolute/path")
    backend = FolderBackend(Path(path) / settings.namespace, settings)
    try:
        yield backend
    finally:
        backend.client.closed = True


class FolderBackend:
    def __init__(self, folder: Path, settings: Settings) -> None:
        self.client = Client()
        self.capabilities = Capabilities(name="folder", shared=True, atomic=False, durable=True)
        self.workers = FolderWorkers(folder / "workers", settings.clock, self.client)

    @property
    def locks(self) -> Locks:
        raise NotSupported("locks", "folder")

    @property
    def events(self) -> Events:
        raise NotSupported("events", "folder")
