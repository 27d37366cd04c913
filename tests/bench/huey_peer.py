"""The peer on SQLite: huey's own consumer on its own storage, in this process."""

from __future__ import annotations

import importlib
import logging
import tempfile
import threading
from typing import Any

from measuring import Watch


def drain(count: int, *, results: bool = False, fsync: bool | None = None, workers: int = 1) -> dict[str, Any]:
    """Enqueue no-op tasks, then have the consumer drain them; `fsync=None` is its default, SQLite's FULL."""
    logging.disable()
    huey = importlib.import_module("huey")
    with tempfile.TemporaryDirectory(prefix="motet-bench-") as folder:
        queue = huey.SqliteHuey("bench", filename=f"{folder}/huey.db", results=results, fsync=fsync)
        done = threading.Event()
        seen = [0]
        lock = threading.Lock()

        def noop(x: int) -> int:
            with lock:
                seen[0] += 1
                if seen[0] == count:
                    done.set()
            return x

        task = queue.task()(noop)
        submitting = Watch()
        for number in range(count):
            task(number)
        submit = submitting.read()
        consumer = queue.create_consumer(workers=workers, periodic=False, check_worker_health=False)
        working = Watch()
        consumer.start()
        done.wait()
        # Its result is written after the body has run.
        consumer.stop(graceful=True)
        work = working.read()
        version: str = huey.__version__
    return {"submit": submit, "work": work, "count": count, "version": version}
