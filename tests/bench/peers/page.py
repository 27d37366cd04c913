"""The comparison as tables: in the terminal and in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from peers.lines import LINES, Line, Results, best, middle, taken
from peers.running import REST
from peers.stages import Row, Size
from peers.table import Peer

Cell = Callable[[str, Line], str]


def as_section(results: Results, size: Size) -> str:
    """Write the section of the page."""
    return f"""{results.broker.heading}

One {results.server} on this machine, {results.broker.kept}; one worker process of each library. Runs: {size.runs}, the
libraries taking turns; these are medians. An asterisk marks what runs a task at most once. In bold the best peer of
each column.

{markdown(results, medians(results))}

CPU microseconds of one task: of the worker (of the client, where calls are made) + of the server.

{markdown(results, costs(results))}

Seconds by the clock, which on a machine with two CPUs says more about the neighbours than about the library.

{markdown(results, walls(results))}

How each is run:

{chr(10).join(choices(results))}

What is measured:

* **drain**: {size.share:.0%} of the tasks named above, enqueued in bulk before a worker is there. CPU counts from the
  first task that runs to {REST} s after the last, so it has the acknowledgements and not the start. Without results
  `motet` still keeps a mark of each outcome for a while, by which it knows a message that comes twice.
* **one by one**, **in bulk**: {size.calls:,} awaited calls; the tasks of a drain by the call for many, or where there
  is none, 100 calls at a time (async) or one after another. Per CPU second of the client.
* **round trip**: {size.trips} calls, each waited for. Clients that poll look every millisecond.
* **chord**: {size.width:,} tasks and one after them; {size.chords} times 10 tasks and one, sent together. Dramatiq,
  streaQ and RQ start that one without the results of the others.
* **chain**: {size.chain} tasks, each given the value of the one before (RQ: only started by it).
* **sleeps**: {size.naps:,} tasks that wait for 50 ms, as many at a time as a worker of this library can be told to do.
* **start**: from exec of the worker's command, with one task queued, to that task. Memory is that of its largest
  process, half a second later; dramatiq, `motet` and taskiq have a parent beside it.
{chr(10).join(reasons(results))}
"""


def as_text(results: Results) -> str:
    """Write the three tables for a terminal."""
    parts = []
    for name, cell in (("medians", medians), ("CPU us a task", costs), ("seconds by the clock", walls)):
        rows = list(table(results, cell(results)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        parts.append("\n".join((f"{name}:", *lines)))
    return "\n\n".join((*parts, "\n".join(reasons(results))))


def markdown(results: Results, cell: Cell) -> str:
    head, *rows = table(results, cell)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def table(results: Results, cell: Cell) -> Iterator[tuple[str, ...]]:
    """One row for each library, a column for each line that anybody has."""
    lines = [line for line in LINES if any(cell(name, line) for name in results.runs)]
    yield ("", *(f"{line.title}" for line in lines))
    for peer in shown(results):
        yield (peer.title, *(cell(peer.name, line) or "-" for line in lines))


def medians(results: Results) -> Cell:
    leaders = {line.title: best(results, line) for line in LINES}

    def cell(name: str, line: Line) -> str:
        value = middle(results, name, line)
        if value is None:
            return ""
        text = f"{number(value)} {'/ CPU s' if line.more else line.unit}"
        return f"**{text}**" if leaders[line.title] == name else text

    return cell


def costs(results: Results) -> Cell:
    def cell(name: str, line: Line) -> str:
        runs = [] if line.row in ("start", "sleeps") else taken(results, name, line)
        return " + ".join(number(each(runs, who)) for who in (line.who, "server")) if runs else ""

    def each(runs: Sequence[Row], who: str) -> float:
        return float(median(run[who] / run["count"] * 1e6 for run in runs))

    return cell


def walls(results: Results) -> Cell:
    def cell(name: str, line: Line) -> str:
        runs = [] if line.title.startswith("memory") else taken(results, name, line)
        return number(median(run["wall"] for run in runs)) if runs else ""

    return cell


def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def choices(results: Results) -> Iterator[str]:
    yield "| library | version | how | tasks at a time | waiting | tasks in a drain |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for peer in shown(results):
        how = (peer.title, peer.version, peer.choice, f"{peer.slots:,}", f"{peer.wide:,}", f"{peer.tasks:,}")
        yield f"| {' | '.join(how)} |"


def reasons(results: Results) -> Iterator[str]:
    """Say what was not measured, except for what a library does not have."""
    for peer in shown(results):
        rows: dict[str, dict[str, None]] = {}
        for row, text in (item for run in results.runs[peer.name] for item in run.items()):
            if isinstance(text, str) and text != "has none":
                rows.setdefault(text, {})[row] = None
        yield from (f"* not measured: {peer.name}, {', '.join(of)}: {text}" for text, of in rows.items())


def shown(results: Results) -> list[Peer]:
    return [peer for peer in (results.broker.ours, *results.broker.peers) if peer.name in results.runs]
