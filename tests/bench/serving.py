"""One worker process without a supervisor, for when `motet worker` is not what is measured."""

from __future__ import annotations

import signal

import anyio
from tasks import app


async def main() -> None:
    async with app:
        worker = app.make_worker()

        async def stop() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    worker.stop()
                    return

        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            await worker.serve()
            group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
