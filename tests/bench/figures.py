"""Which figures are taken, how often, and what each should be. Every workload runs in fresh processes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from measuring import in_child

Run = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One row: the median of several runs, what it should be, and the CPU seconds that it took."""

    what: str
    unit: str
    runs: Sequence[float]
    cpu: float
    target: str = ""
    note: str = ""
    value: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", median(self.runs))

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None when there is none."""
        if not self.target:
            return None
        sign, wanted = self.target.split()[:2]
        limit = float(wanted.replace(",", ""))
        return self.value >= limit if sign == ">=" else self.value < limit if sign == "<" else self.value <= limit


@dataclass(frozen=True)
class Scale:
    """How much of everything: a run for figures, or a quick one to see that it works."""

    runs: int = 5
    tasks: int = 50_000
    peer_tasks: int = 5_000
    group: int = 100_000
    idle: float = 10.0
    calls: int = 200


QUICK = Scale(runs=1, tasks=3_000, peer_tasks=500, group=10_000, idle=1.0, calls=20)


def of(
    what: str, unit: str, runs: Sequence[Run], value: Callable[[Run], float], cpu: Callable[[Run], float], **more: str
) -> Figure:
    """Make a figure of the runs of a workload."""
    return Figure(what, unit, [value(run) for run in runs], median(map(cpu, runs)), **more)


def per_task(part: str) -> Callable[[Run], float]:
    """CPU microseconds a task."""
    return lambda run: run[part]["cpu"] / run["count"] * 1e6


def per_cpu_second(run: Run) -> float:
    """Tasks for each CPU second of the worker."""
    return float(run["count"] / run["work"]["cpu"])


def spent(part: str) -> Callable[[Run], float]:
    """CPU seconds of one part of a run."""
    return lambda run: float(run[part]["cpu"])


def core(scale: Scale) -> Iterator[Figure]:
    """The framework alone, on memory."""
    loops = [False, *([True] if importlib.util.find_spec("uvloop") else [])]
    for uvloop in loops:
        runs = [in_child("draining", "memory", count=scale.tasks, uvloop=uvloop) for _ in range(scale.runs)]
        loop = "uvloop" if uvloop else "asyncio"
        cost = per_task("work")
        yield of(f"memory, {loop}: a task through the worker", "us", runs, cost, spent("work"), target="<= 25 us")
        tasks = "tasks / CPU s"
        yield of(f"memory, {loop}: drain", tasks, runs, per_cpu_second, spent("work"), target=">= 40,000")
        if not uvloop:
            cost = per_task("submit")
            yield of("memory: submit_many, a call", "us", runs, cost, spent("submit"), target="<= 25 us")
    runs = [in_child("draining", "group", count=scale.tasks, on="memory") for _ in range(scale.runs)]
    yield of(f"memory: a task of a group of {scale.tasks:,}", "us", runs, per_task("work"), spent("work"))


def drains(scale: Scale) -> Iterator[Figure]:
    """SQLite against huey, run about: both with every commit on the disk (FULL), the default of both."""
    ours: list[Run] = []
    for results in (False, True):
        ours, theirs = [], []
        for _ in range(scale.runs):
            ours.append(in_child("draining", "sqlite", count=scale.tasks, results=results))
            if importlib.util.find_spec("huey"):
                theirs.append(in_child("huey_peer", "drain", count=scale.peer_tasks, results=results))
        stored = "results stored" if results else "no results"
        tasks = "tasks / CPU s"
        walls = f"{median(run['count'] / run['work']['wall'] for run in ours):,.0f} / s by the clock"
        yield of(f"sqlite: drain, {stored}", tasks, ours, per_cpu_second, spent("work"), note=walls)
        if not theirs:
            continue
        walls = f"{median(run['count'] / run['work']['wall'] for run in theirs):,.0f} / s by the clock"
        yield of(
            f"huey {theirs[0]['version']}: drain, {stored}", tasks, theirs, per_cpu_second, spent("work"), note=walls
        )
        ratios = [per_cpu_second(a) / per_cpu_second(b) for a, b in zip(ours, theirs, strict=True)]
        cpu = median(run["work"]["cpu"] for run in ours)
        yield Figure(f"sqlite / huey: drain, {stored}", "x", ratios, cpu, ">= 3 x")
    yield of("sqlite: submit_many, a call", "us", ours, per_task("submit"), spent("submit"))
    runs = [in_child("draining", "group", count=scale.tasks, on="sqlite") for _ in range(scale.runs)]
    yield of(f"sqlite: a task of a group of {scale.tasks:,}", "us", runs, per_task("work"), spent("work"))


def latencies(scale: Scale) -> Iterator[Figure]:
    """A worker process waits; CPU is that of client and worker together."""
    runs = [in_child("latency", "compositions", width=1000, length=100, calls=scale.calls) for _ in range(scale.runs)]

    def both(name: str) -> Callable[[Run], float]:
        return lambda run: run[name]["cpu"] + run[name]["worker"]

    def wall_of(name: str) -> Callable[[Any], Any]:
        return lambda run: run[name]["wall"]

    wall = "by the clock, submit to value"
    for name, what, target in (("chord", "chord of 1,000", "< 0.5 s"), ("chain", "chain of 100", "")):
        yield of(f"sqlite: {what}", "s", runs, wall_of(name), both(name), target=target, note=wall)
    yield of("sqlite: round trip of one call, p50", "ms", runs, lambda run: run["call"]["p50"] * 1000, both("call"))


def clients(scale: Scale) -> Iterator[Figure]:
    """What a wide group asks of the process that submits it."""
    what = f"group of {scale.group:,}"
    runs = [in_child("client", "wide_group", count=scale.group) for _ in range(scale.runs)]
    cpu = lambda run: float(run["cpu"])  # noqa: E731 - it stands for `spent` where a run has one part
    yield of(f"sqlite: {what} submitted, peak RSS", "MiB", runs, lambda run: run["peak"], cpu, target="< 150 MiB")
    runs = [in_child("client", "compiling", count=scale.group) for _ in range(scale.runs)]
    yield of(f"{what} compiled", "us / call", runs, lambda run: run["cpu"] / run["count"] * 1e6, cpu, target="< 10 us")
    widths = [1_000, scale.group] if scale.group <= 10_000 else [1_000, 10_000, scale.group]
    sizes = in_child("client", "message_sizes", widths=widths)["sizes"]
    note = "; ".join(f"{width:,} wide: {low} to {high}" for width, low, high in sizes)
    spread = max(high for _, _, high in sizes) - min(low for _, low, _ in sizes)
    # A node's number takes 1 to 5 bytes; nothing else differs.
    yield Figure("run messages of groups, largest less smallest", "bytes", [spread], 0.0, "<= 4 bytes", note)


def processes(scale: Scale) -> Iterator[Figure]:
    """One worker process, from outside."""
    if sys.platform != "linux":
        return
    cpu: Callable[[Run], float] = lambda run: float(run["cpu"])  # noqa: E731 - as above
    runs = [in_child("process", "imports") for _ in range(scale.runs)]
    yield of("import of core, worker and adapter", "ms", runs, lambda run: run["cpu"] * 1000, cpu)
    runs = [in_child("process", "worker_process", idle=scale.idle) for _ in range(max(1, (scale.runs + 1) // 2))]
    note = runs[0]["command"]
    yield of("worker: exec to first task", "s", runs, lambda run: run["start"], cpu, target="< 0.45 s", note=note)
    yield of("worker: idle CPU", "%", runs, lambda run: run["idle"] * 100, cpu, target="< 1 %")
    yield of("worker: memory (PSS)", "MiB", runs, lambda run: run["pss"], cpu, target="< 40 MiB")
    if runs[0]["pss_all"] > runs[0]["pss"]:
        yield of("with its supervisor: idle CPU", "%", runs, lambda run: run["idle_all"] * 100, cpu)
        yield of("with its supervisor: memory (PSS)", "MiB", runs, lambda run: run["pss_all"], cpu)


def limits(scale: Scale) -> Iterator[Figure]:
    """What a Redis server has to bear."""
    cpu: Callable[[Run], float] = lambda run: float(run["cpu"])  # noqa: E731 - as above
    runs = [in_child("limits", "queued", count=scale.tasks)]
    yield of("redis: a small task in its queue", "bytes", runs, lambda run: run["bytes"], cpu, target="<= 250 bytes")
    runs = [in_child("limits", "kept", count=scale.tasks // 5)]
    what, note = f"redis: keys that {scale.tasks // 5:,} finished tasks leave", f"{runs[0]['all']} keys in all"
    yield of(what, "keys", runs, lambda run: run["keys"], cpu, target="<= 0 keys", note=note)
    runs = [in_child("limits", "wide", count=scale.group) for _ in range((scale.runs + 1) // 2)]
    what = f"redis: chord of {scale.group:,}"
    note = f"all its records {runs[0]['records']:.1f} MiB"
    yield of(f"{what}, its barriers", "MiB", runs, lambda run: run["barriers"], cpu, target="< 3 MiB", note=note)
    note = f"{runs[0]['slow']} scripts took more than 2 ms"
    yield of(f"{what}, the longest script", "ms", runs, lambda run: run["longest"], cpu, target="<= 10 ms", note=note)


SECTIONS = {
    "core": core,
    "drains": drains,
    "latencies": latencies,
    "clients": clients,
    "processes": processes,
    "limits": limits,
}
