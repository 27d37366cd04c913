"""Queues of no-op tasks, submitted in bulk, then drained by one worker in this process: memory and SQLite."""

from __future__ import annotations

import os
from typing import Any

import anyio
from measuring import Watch, backend_options, database


def memory(count: int, *, uvloop: bool = False) -> dict[str, Any]:
    """The framework's own cost: a world of dicts, no I/O."""
    os.environ["BENCH_TTL"] = "0"
    return anyio.run(_drain, count, **backend_options(uvloop))


def sqlite(count: int, *, results: bool = False, synchronous: str = "full") -> dict[str, Any]:
    """The worker on a file."""
    with database() as url:
        os.environ["BENCH_URL"] = f"{url}?synchronous={synchronous}"
        os.environ["BENCH_TTL"] = "3600" if results else "0"
        return anyio.run(_drain, count, **backend_options(uvloop=False))


async def _drain(count: int) -> dict[str, Any]:
    from tasks import app, noop

    async with app:
        terms = [noop.s(number) for number in range(count)]
        submitting = Watch()
        await app.submit_many(terms)
        submit = submitting.read()
        worker = app.make_worker(burst=True)
        working = Watch()
        await worker.serve()
        work = working.read()
        left = [queue for queue in await app.backend.transport.queues() if queue.ready or queue.held]
    assert not left, left
    return {"submit": submit, "work": work, "count": count}


def group(count: int, *, on: str) -> dict[str, Any]:
    """One wide group: the same tasks, each arriving at a barrier. The clock runs until the group is decided."""
    with database() as url:
        os.environ["BENCH_URL"] = url if on == "sqlite" else "memory://"
        return anyio.run(_group, count, **backend_options(uvloop=False))


async def _group(count: int) -> dict[str, Any]:
    from tasks import app, noop

    from motet import group
    from motet.message import Place

    async with app:
        term = group(noop.s(number) for number in range(count))
        submitting = Watch()
        handle = await term.submit()
        submit = submitting.read()
        worker = app.make_worker()
        work: Any = None
        async with anyio.create_task_group() as running:
            working = Watch()
            running.start_soon(worker.serve)
            # The outcome, not the value: reading 100,000 results is the client's work, not the worker's.
            await app.client.wait(handle.id, Place("", 0), None, known=True)
            work = working.read()
            worker.stop()
    return {"submit": submit, "work": work, "count": count}
