"""What is done with every peer, in the same way: each section fills an empty server and yields rows of figures.

A drain is filled before a worker is there. CPU counts from the moment that the first task runs until the worker has
been left alone with the last for 0.3 s, so that it includes the last acknowledgements and no start; the clock runs from
the first task to the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from peers.brokers import BenchServer
from peers.environments import python_of
from peers.running import REST, Bench, NotMeasured, Worker, cpu_of
from peers.table import Peer

Row = dict[str, Any]
Rows = dict[str, Row | str]  # a text says why there are no figures


@dataclass(frozen=True)
class Size:
    """How much of everything; `share` of the tasks that the table gives a peer."""

    runs: int = 3
    share: float = 1.0
    calls: int = 3_000
    trips: int = 200
    width: int = 1_000
    chords: int = 200
    chain: int = 100
    naps: int = 2_000


SMALL = Size(runs=1, share=0.3, calls=500, trips=50, width=200, chords=30, chain=30, naps=1_000)


def sections(peer: Peer, server: BenchServer, url: str, size: Size, chosen: Callable[[str], bool]) -> Rows:
    """Take a peer through the chosen sections."""
    rows: Rows = {}
    names = [name for name in STAGES if chosen(name)]
    try:
        python_of(peer)
    except RuntimeError as error:
        return {row: str(error) for name in names for row in ROWS[name]}
    for name in names:
        bench = Bench(peer, server, url, name, results=name in ("results", "latencies"))
        server.clear()
        try:
            for row, figures in STAGES[name](bench, size):
                rows[row] = figures
        except (NotMeasured, OSError, ValueError) as error:
            rows.update({row: str(error) for row in ROWS[name] if row not in rows})
    return rows


def drains(bench: Bench, size: Size) -> Iterator[tuple[str, Row | str]]:
    """Many tasks that do nothing: enqueued as fast as the library can, then drained."""
    count = max(50, int(bench.peer.tasks * size.share))
    filled = {**bench.client("bulk", count), "count": count}
    if not bench.results:
        yield "bulk", filled
    yield "drain results" if bench.results else "drain", drained(bench, count)


def drained(bench: Bench, count: int, *, wide: bool = False) -> Row:
    with bench.worker(count, wide=wide) as worker:
        first = worker.mark("first")
        work, server = worker.cpu(), cpu_of(bench.server.pid)
        last = worker.mark("last")
        time.sleep(REST)
        return {"wall": last - first, "worker": worker.cpu() - work, **bench.served(server), "count": count}


def enqueues(bench: Bench, size: Size) -> Iterator[tuple[str, Row | str]]:
    """One call after another, each awaited."""
    yield "enqueue", {**bench.client("enqueue", size.calls), "count": size.calls}


def sleeps(bench: Bench, size: Size) -> Iterator[tuple[str, Row | str]]:
    """Many tasks that wait: how many of them at a time."""
    if bench.peer.wide == 1:
        raise NotMeasured("one task at a time")
    bench.client("sleeps", size.naps)
    yield "sleeps", drained(bench, size.naps, wide=True)


def latencies(bench: Bench, size: Size) -> Iterator[tuple[str, Row | str]]:
    """A worker starts with one task in the queue; then somebody waits for single calls and for whole graphs."""
    bench.client("enqueue", 1)
    with bench.worker(1) as worker:
        seen = worker.mark("first") - worker.start
        spent = worker.cpu()
        time.sleep(0.5)
        memory = worker.memory()
        yield "start", {"wall": seen, "worker": spent, "pss": max(memory), "pss all": sum(memory), "count": 1}
        commands: dict[str, tuple[tuple[object, ...], int]] = {
            "round trip": (("roundtrip", size.trips), size.trips),
            "chord": (("chords", size.width, 1), size.width + 1),
            "chords": (("chords", 10, size.chords), size.chords * 11),
            "chain": (("chains", size.chain, 3), size.chain * 3),
        }
        for row, (arguments, count) in commands.items():
            if row in bench.peer.skips:
                yield row, "too slow"
                continue
            try:
                yield row, {**waited(bench, worker, *arguments), "count": count}
            except NotMeasured as reason:
                yield row, str(reason)


def waited(bench: Bench, worker: Worker, *arguments: object) -> Row:
    before = worker.cpu()
    took = bench.client(*arguments)
    time.sleep(REST / 3)
    return {**took, "worker": worker.cpu() - before}


STAGES: dict[str, Callable[[Bench, Size], Iterator[tuple[str, Row | str]]]] = {
    "drains": drains,
    "results": drains,
    "enqueues": enqueues,
    "latencies": latencies,
    "sleeps": sleeps,
}
ROWS = {
    "drains": ("bulk", "drain"),
    "results": ("drain results",),
    "enqueues": ("enqueue",),
    "latencies": ("start", "round trip", "chord", "chords", "chain"),
    "sleeps": ("sleeps",),
}
