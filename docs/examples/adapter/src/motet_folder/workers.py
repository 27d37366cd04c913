from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from motet.engine.wellformed import check_each, check_text
from motet.ports import Clock, Present, Workers
from motet_folder.errors import Client

decode = msgspec.msgpack.Decoder(tuple[float, str, bytes]).decode


class FolderWorkers:
    def __init__(self, folder: Path, clock: Clock, client: Client) -> None:
        self.folder, self.clock, self.client = folder, clock, client

    async def beat(self, worker: Present, ttl: timedelta) -> None:
        check_each((worker,), Present)
        until = self.clock.now().timestamp() + ttl.total_seconds()
        with self.client.call():
            self.folder.mkdir(parents=True, exist_ok=True)
            new = self.folder / f".{worker.id}"
            new.write_bytes(msgspec.msgpack.encode((until, worker.id, worker.about)))
            new.replace(self.folder / worker.id)  # whole or not at all, whoever reads meanwhile

    async def leave(self, id: str) -> None:
        check_text(id)
        with self.client.call():
            (self.folder / id).unlink(missing_ok=True)

    async def present(self) -> list[Present]:
        now, found = self.clock.now().timestamp(), []
        with self.client.call():
            for file in sorted(self.folder.glob("[!.]*")):
                with suppress(FileNotFoundError):  # it may leave meanwhile
                    found.append(decode(file.read_bytes()))
        return [Present(id, about) for until, id, about in found if until > now]


_: type[Workers] = FolderWorkers  # a checker says here what is missing
