"""Deterministic simulation: thousands of schedules of the real core, under every fault that can enter at a port.

    python3 noxfile.py -s sim                                # 10,000 fused and 2,000 ordered new seeds, and all old ones
    python3 noxfile.py -s sim -- --schedules 500 --seed 7    # so many, from that seed
    python3 noxfile.py -s sim -- --replay 4711 --mode ordered
    python3 noxfile.py -s sim -- --mutants                   # look for seeds that show each mutant
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from crashpoints import pairs, singles
from faults import ALL, possible
from mutants import MUTANTS
from schedule import Report, simulate

SEEDS = Path(__file__).with_name("seeds.txt")
BATCH = 50
FUSED = 5
"""So many fused schedules for each ordered one."""
SHOWN = 20
"""Violations that are printed; the rest is counted."""


class Saved(NamedTuple):
    """A seed that once failed, and why."""

    mode: str
    seed: int
    reason: str


def saved() -> list[Saved]:
    """Read the seeds that are kept for ever."""
    lines = (line.partition("#") for line in SEEDS.read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#"))
    return [Saved(mode, int(seed), reason.strip()) for text, _, reason in lines for mode, seed in [text.split()]]


class Tally:
    """What all reports together say."""

    def __init__(self) -> None:
        self.schedules: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.met: Counter[tuple[str, str]] = Counter()
        self.failed: list[str] = []

    def add(self, report: Report, name: str = "") -> None:
        self.schedules[report.mode] += 1
        for what in ("executions", "kills", "losses", "copies", "calls"):
            self.sums[what] += getattr(report, what)
        self.met += report.met
        if report.violations:
            self.failed.append(f"{name or f'{report.mode} {report.seed}'}: {report.violations[0]}")

    def merge(self, other: Tally) -> None:
        self.schedules += other.schedules
        self.sums += other.sums
        self.met += other.met
        self.failed += other.failed


def random_ones(mode: str, start: int, count: int) -> Tally:
    """Perform schedules of one mode, one seed after another."""
    return gathered((simulate(seed, mode), "") for seed in range(start, start + count))


def broken_off(mode: str, sample: int, seed: int) -> Tally:
    """Perform the fixed workflows with every single break, and some pairs."""
    both = (*singles(mode), *pairs(mode, sample, random.Random(seed)))
    return gathered((report, f"{mode} {name}") for name, report in both)


def kept_ones() -> Tally:
    """Perform the seeds of seeds.txt."""
    return gathered((simulate(each.seed, each.mode), "") for each in saved())


def hush() -> None:
    """Faults make the core complain, and rightly so."""
    logging.disable(logging.CRITICAL)


def gathered(reports: Iterable[tuple[Report, str]]) -> Tally:
    tally = Tally()
    for number, (report, name) in enumerate(reports):
        tally.add(report, name)
        if number % BATCH == 0:
            gc.collect()
    return tally


# --- the command line -------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate schedules of faults.")
    parser.add_argument("--schedules", type=int, default=10_000, help="fused ones; a fifth as many are ordered")
    parser.add_argument("--seed", type=int, default=None, help="the first seed; by default one that is new")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for so long")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", type=int, default=None, metavar="SEED", help="perform one, and tell its course")
    parser.add_argument("--mode", choices=("fused", "ordered"), default="fused", help="of the replay")
    parser.add_argument("--strict", action="store_true", help="fail if a fault never met a call that it can meet")
    parser.add_argument("--mutants", action="store_true", help="look for seeds that show each mutant")
    chosen = parser.parse_args()
    if chosen.replay is not None:
        return replay(chosen.replay, chosen.mode)
    if chosen.mutants:
        return search_mutants(3000)
    return run(chosen)


def replay(seed: int, mode: str) -> int:
    """Tell the course of one schedule."""
    logging.basicConfig(level=logging.CRITICAL)
    report = simulate(seed, mode, trace=True)
    print("\n".join(report.trace))
    print(f"{mode} {seed}: {len(report.violations)} violations")
    print("\n".join(report.violations))
    return int(bool(report.violations))


def search_mutants(limit: int) -> int:
    """Print the first seeds that show each mutant."""
    hush()
    for name, mutant in MUTANTS.items():
        found: list[int] = []
        for seed in range(limit):
            with mutant.in_force():
                if simulate(seed, mutant.mode).violations and not found.append(seed) and len(found) == 3:
                    break
        print(f"{name:45} {mutant.mode:8} {found}", flush=True)
    return 0


def run(chosen: argparse.Namespace) -> int:
    first = time.time_ns() // 1_000_000 if chosen.seed is None else chosen.seed
    start, tally = time.monotonic(), Tally()
    with ProcessPoolExecutor(chosen.jobs, initializer=hush) as pool:
        waiting = [pool.submit(kept_ones), *(pool.submit(broken_off, mode, 200, first) for mode in ("ordered", "fused"))]
        waiting += [pool.submit(random_ones, *batch) for batch in batches(first, chosen.schedules)]
        for done in as_completed(waiting):
            tally.merge(done.result())
        upto = first + chosen.schedules
        while time.monotonic() - start < chosen.minutes * 60 and not tally.failed:
            more = [pool.submit(random_ones, *batch) for batch in batches(upto, chosen.schedules)]
            upto += chosen.schedules
            for done in as_completed(more):
                tally.merge(done.result())
    missing = report(tally, first, upto, time.monotonic() - start)
    return int(bool(tally.failed) or (chosen.strict and bool(missing)))


def batches(first: int, count: int) -> Iterator[tuple[str, int, int]]:
    """Cut the work into pieces; the ordered ones, which take longer, come first."""
    for mode, many in (("ordered", -(-count // FUSED)), ("fused", count)):
        for start in range(0, many, BATCH):
            yield mode, first + start, min(BATCH, many - start)


def report(tally: Tally, first: int, upto: int, seconds: float) -> list[str]:
    """Print what was done; return the pairs of call and fault that never came together."""
    counts = ", ".join(f"{count:,} {mode}" for mode, count in sorted(tally.schedules.items()))
    total = sum(tally.schedules.values())
    print(f"seeds {first} to {upto - 1}: {counts} schedules in {seconds:.0f} s ({total / seconds:.0f} a second)")
    print(", ".join(f"{count:,} {what}" for what, count in tally.sums.items()))
    missing = table(tally.met)
    print(f"{len(missing)} pairs never met: {', '.join(missing)}" if missing else "every fault met every call")
    for line in tally.failed[:SHOWN]:
        print(f"  VIOLATION {line}")
    print(f"{len(tally.failed)} violations")
    for line in tally.failed[:3]:
        mode, seed, *_ = line.replace(":", " ").split()
        if seed.isdigit():
            print(f"  replay: python3 noxfile.py -s sim -- --replay {seed} --mode {mode}")
    return missing


def table(met: Counter[tuple[str, str]]) -> list[str]:
    """Print how often each fault met each call."""
    calls = sorted({call for call, _ in met})
    width = max((len(call) for call in calls), default=0)
    heads = [fault.name.lower() for fault in ALL]
    print(" " * width + "".join(f"{head:>13}" for head in heads))
    missing: list[str] = []
    for call in calls:
        cells: list[str] = []
        for fault in ALL:
            count = met[call, fault]
            can = possible(fault, call.partition(".")[2])
            cells.append(f"{count if count else '-' if can else '':>13}")
            if can and not count:
                missing.append(f"{call} x {fault}")
        print(f"{call:{width}}{''.join(cells)}")
    return missing


__all__: list[Any] = ["Saved", "kept_ones", "main", "random_ones", "saved"]

if __name__ == "__main__":
    sys.exit(main())
