"""The rows of the comparison: what is read from a run, which way is better, and what ours should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from figures import Figure
from peers.brokers import Broker
from peers.stages import Row, Rows

LEAST = 0.01  # CPU seconds: the system counts no finer


@dataclass(frozen=True)
class Results:
    """What was measured on a broker: the rows of each run, by the name of the peer; and what its server is."""

    broker: Broker
    runs: Mapping[str, Sequence[Rows]]
    server: str


@dataclass(frozen=True)
class Line:
    """One row, its unit, and its targets where they are absolute; ratios are the broker's."""

    row: str
    title: str
    unit: str
    value: Callable[[Row], float]
    floor: str = ""
    aim: str = ""
    more: bool = False  # more is better
    who: str = "worker"  # whose CPU the row is about

    def targets(self, broker: Broker) -> tuple[str, str]:
        """The floor and the aim: a ratio ends with x, and is to the best peer, or to the one that the broker names."""
        return (self.floor, self.aim) if self.floor else broker.targets.get(self.row, ("", ""))


def per_second_of(who: str) -> Callable[[Row], float]:
    return lambda row: float(row["count"] / max(row[who], LEAST))


def by_clock(row: Row) -> float:
    return float(row["wall"])


def p50(row: Row) -> float:
    return float(row["p50"] * 1000)


DRAINED, CALLED = "tasks / CPU s", "calls / CPU s"
LINES = (
    Line("drain", "drain, no results", DRAINED, per_second_of("worker"), more=True),
    Line("drain results", "drain, results stored", DRAINED, per_second_of("worker"), more=True),
    Line("enqueue", "one by one", CALLED, per_second_of("client"), more=True, who="client"),
    Line("bulk", "in bulk", CALLED, per_second_of("client"), more=True, who="client"),
    Line("round trip", "round trip, p50", "ms", p50),
    Line("chord", "one wide chord", "s", by_clock),
    Line("chords", "chords of 10, all", "s", by_clock),
    Line("chain", "chain, p50", "ms", p50),
    Line("sleeps", "sleeps of 50 ms", "s", by_clock, "<= 0.35 s", "<= 0.15 s"),
    Line("start", "start to first task", "s", by_clock, "<= 0.45 s", "<= 0.2 s"),
    Line("start", "memory (PSS)", "MiB", lambda row: float(row["pss"]), "<= 40 MiB", "<= 28 MiB"),
    Line("start", "memory, all its processes", "MiB", lambda row: float(row["pss all"])),
)


def figures(results: Results) -> Iterator[Figure]:
    """Ours, then what it is to the peers."""
    broker = results.broker
    for line in LINES:
        if runs := taken(results, broker.ours.name, line):
            values, cpu = [line.value(run) for run in runs], median(run[line.who] for run in runs)
            floor, wanted = line.targets(broker)
            absolute = not floor.endswith("x")
            target, note = (floor, aim(wanted, values)) if absolute else ("", "")
            yield Figure(f"{broker.name}: {line.title}", line.unit, values, cpu, target, note)
            if not absolute:
                yield from ratios(results, line, cpu)


def ratios(results: Results, line: Line, cpu: float) -> Iterator[Figure]:
    """Ours to the one that the target names, else to the best, and to the best that runs tasks at least once."""
    broker = results.broker
    floor, wanted = line.targets(broker)
    against, aim_against = broker.against.get(line.row, ("", ""))
    leaders = [best(results, line), best(results, line, at_least_once=True)]
    for other in dict.fromkeys([against] if against else leaders):
        if other and (found := ratio(results, line, other)):
            further = ratio(results, line, aim_against) if aim_against else found
            note = aim(wanted, further) + (f" of {aim_against}" if aim_against else "")
            if against and leaders[0]:
                note += f"; the best is {title_of(results, leaders[0])}"
            yield Figure(f"{broker.name} / {title_of(results, other)}: {line.title}", "x", found, cpu, floor, note)


def ratio(results: Results, line: Line, peer: str) -> list[float]:
    """Run by run; how many times as much where more is better or the target is at least, else how much of the time."""
    found = []
    floor, _ = line.targets(results.broker)
    for mine, its in zip(results.runs[results.broker.ours.name], results.runs.get(peer, ()), strict=False):
        a, b = mine.get(line.row, ""), its.get(line.row, "")
        if not isinstance(a, str) and not isinstance(b, str):
            ours, theirs = line.value(a), line.value(b)
            faster = floor.startswith(">=") and not line.more
            found.append(theirs / ours if faster else ours / theirs)
    return found


def aim(wanted: str, values: Sequence[float]) -> str:
    """Say whether the aim, further than the floor, is reached too."""
    if not wanted:
        return ""
    if not values:
        return f"aim {wanted}: not measured"
    reached = Figure("", "", values, 0.0, wanted).holds
    return f"aim {wanted}: {'reached' if reached else 'no'}"


def best(results: Results, line: Line, *, at_least_once: bool = False) -> str | None:
    """The peer with the best median."""
    peers = [peer for peer in results.broker.peers if not (peer.once and at_least_once)]
    medians = {peer.name: middle(results, peer.name, line) for peer in peers}
    known = {name: value for name, value in medians.items() if value is not None}
    choose = max if line.more else min
    return choose(known, key=lambda name: known[name]) if known else None


def middle(results: Results, peer: str, line: Line) -> float | None:
    runs = taken(results, peer, line)
    return median(map(line.value, runs)) if runs else None


def taken(results: Results, peer: str, line: Line) -> list[Row]:
    """The runs of a peer that have this row."""
    rows = [run.get(line.row, "") for run in results.runs.get(peer, ())]
    return [row for row in rows if not isinstance(row, str)]


def title_of(results: Results, name: str) -> str:
    return next(peer.title for peer in results.broker.peers if peer.name == name)
