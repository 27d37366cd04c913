"""A process of the fleet: `work` until told to stop, `submit KIND ROOT`, or `cancel ROOT`."""

from __future__ import annotations

import logging
import signal
import sys

import anyio
from mixture import KINDS, app


async def work() -> None:
    async with app:
        worker = app.make_worker(concurrency=4, threads=4)
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:

                async def stop() -> None:
                    async for _ in signals:
                        worker.stop()

                tasks.start_soon(stop)
                await worker.serve()
                tasks.cancel_scope.cancel()


async def submit(kind: str, root: str) -> None:
    async with app:
        await KINDS[kind](root).submit(root)


async def cancel(root: str) -> None:
    async with app:
        await app.handle(root).cancel("the client asks")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    match sys.argv[1:]:
        case ["submit", kind, root]:
            anyio.run(submit, kind, root)
        case ["cancel", root]:
            anyio.run(cancel, root)
        case _:
            anyio.run(work)
