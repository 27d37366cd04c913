"""What a wide group asks of its client, and how large the messages are that come of it."""

from __future__ import annotations

import os
from typing import Any

import anyio
from measuring import Watch, database, peak_rss_mib


def wide_group(count: int) -> dict[str, Any]:
    """Submit a group from a generator on SQLite, in a process that has done nothing else."""
    with database() as url:
        os.environ["BENCH_URL"] = url
        return anyio.run(_wide_group, count)


async def _wide_group(count: int) -> dict[str, Any]:
    from tasks import app, noop

    from motet import group

    async with app:
        watch = Watch()
        await group(noop.s(number) for number in range(count)).submit()
        return {**watch.read(), "peak": peak_rss_mib(), "count": count}


def compiling(count: int) -> dict[str, Any]:
    """Compile a group and write nothing."""
    from tasks import app, noop

    from motet import group
    from motet.canvas.compile import Origin, compile_term

    term = group(noop.s(number) for number in range(count))
    watch = Watch()
    compiled = compile_term(term, Origin(run="x" * 22), app.registry, ttl=3600.0)
    size = len(compiled.first.body) + sum(len(page.body) for page in compiled.rest)
    return {**watch.read(), "bytes": size, "count": count}


def message_sizes(widths: list[int]) -> dict[str, Any]:
    """The smallest and largest message that runs a task, for groups of several widths."""
    return {"sizes": [anyio.run(_message_sizes, width) for width in widths]}


async def _message_sizes(width: int) -> list[int]:
    from tasks import app, noop

    from motet import group

    async with app:
        await group(noop.s(1) for _ in range(width)).submit()
        sizes: set[int] = set()
        transport: Any = app.backend.transport
        publish = transport.world.letters.publish

        def noted(parcels: Any) -> None:
            given = list(parcels)
            sizes.update(len(parcel.body) for parcel in given if parcel.lane.queue == "default")
            publish(given)

        transport.world.letters.publish = noted
        await app.make_worker(burst=True).serve()
    return [width, min(sizes), max(sizes)]
