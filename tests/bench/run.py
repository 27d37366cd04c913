"""Measure Motet on this machine: `python tests/bench/run.py [--peers] [--quick] [--json] [--write] [SECTION...]`.

Each figure is the median of several runs in fresh processes, with the CPU seconds that one run took. The exit code is 0
whatever comes out: this is a benchmark, and says where it falls short.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "servers"))

from figures import QUICK, SECTIONS, Figure, Scale
from peers import lines as comparison
from peers import page
from peers.brokers import NATS, RABBITMQ, REDIS, Broker
from peers.rounds import rounds
from peers.stages import SMALL, Size
from peers.table import MOTET

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BROKERS = (REDIS, NATS, RABBITMQ)
HEAD = ("figure", "median", "unit", "lowest", "highest", "CPU s", "target", "holds", "note")


def main() -> None:
    options = arguments()
    scale = QUICK if options.quick else Scale(**({"runs": options.runs} if options.runs else {}))
    start = time.monotonic()
    figures: list[Figure] = []
    for name in SECTIONS:
        if name not in (options.sections or SECTIONS):
            continue
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        try:
            figures += SECTIONS[name](scale)
        except RuntimeError as error:
            print(f"{name} was not measured: {error}", file=sys.stderr)
    size = SMALL if options.quick else Size(**({"runs": options.runs} if options.runs else {}))
    measured = [found for broker in BROKERS if (found := compare(broker, options, size)) is not None]
    for results in measured:
        figures += comparison.figures(results)
    machine = {**describe(), **{results.broker.name: results.server for results in measured}}
    print(as_json(machine, figures, measured) if options.json else as_text(machine, figures))
    if not options.json:
        for results in measured:
            print(f"\n{page.as_text(results)}")
    if options.write:
        new = {each.broker.name: page.as_section(each, size) for each in measured if options.peers}
        sections = [new.get(broker.name) or kept(broker) for broker in BROKERS]
        if chosen := [section for section in sections if section]:
            PAGE.write_text("\n".join((as_page(machine, figures, scale), *chosen)), encoding="utf-8")
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)


def compare(broker: Broker, options: argparse.Namespace, size: Size) -> comparison.Results | None:
    """Measure ourselves on a broker, and the peers if that is wanted."""
    names = [name for name in broker.sections if name in (options.sections or broker.sections)]
    known = {peer.name: peer for peer in broker.peers} if options.peers else {}
    only = [name for name in options.only.split(",") if name] or list(known)
    peers = [broker.ours, *(known[name] for name in only if name in known)]
    if not names:
        return None
    try:
        return rounds(broker, peers, size, lambda stage: f"{broker.name}-{stage}" in names)
    except (LookupError, RuntimeError) as error:
        print(f"{broker.name} was not measured: {error}", file=sys.stderr)
        return None


def kept(broker: Broker) -> str:
    """What the page says of the peers on a broker, which a run without them leaves as it is."""
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return "".join(old.partition(broker.heading)[1:]).partition("\n## ")[0]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    sections = [*SECTIONS, *(name for broker in BROKERS for name in broker.sections)]
    parser.add_argument("sections", nargs="*", choices=[*sections, []], help="all of them when none is named")
    parser.add_argument("--quick", action="store_true", help="small and once: to see that it works (< 40 s)")
    parser.add_argument("--runs", type=int, help=f"runs per figure  [default: {Scale.runs}; on brokers {Size.runs}]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument(
        "--peers", action="store_true", help="measure the peers on all brokers too (+ 16 minutes; quick: + 3)"
    )
    names = [peer.name for broker in BROKERS for peer in broker.peers]
    parser.add_argument("--only", default="", metavar="A,B", help=f"some of the peers: {', '.join(names)}")
    options = parser.parse_args()
    if unknown := {name for name in options.only.split(",") if name} - {MOTET.name, *names}:
        parser.error(f"no peer {', '.join(sorted(unknown))}: there are {', '.join(names)}")
    options.peers = options.peers or bool(options.only)
    return options


# --- the machine ------------------------------------------------------------------------------------------------------


def describe() -> dict[str, str]:
    """Say what the figures were taken on."""
    model = next((line.partition(": ")[2] for line in lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    folder = tempfile.gettempdir()
    return {
        "machine": f"{model or platform.machine()}, {os.cpu_count()} CPUs, {memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f} at the end",
        "python": f"{platform.python_implementation()} {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "files": f"in {folder} ({file_system(folder)}), synchronous=FULL, 4 KiB + fsync in {fsync(folder):.2f} ms",
        "commit": revision(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def file_system(folder: str) -> str:
    """Name the file system of a folder."""
    mounts = [line.split()[1:3] for line in lines("/proc/self/mounts")]
    found = [(len(point), kind) for point, kind in mounts if Path(folder).is_relative_to(point)]
    return max(found, default=(0, "unknown"))[1]


def fsync(folder: str) -> float:
    """Milliseconds of one small synchronous write: what every commit on SQLite pays."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(20):
            start = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    return sorted(times)[10] * 1000


def revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PAGE.parent)
    return done.stdout.strip() or "unknown"


# --- the table --------------------------------------------------------------------------------------------------------


def cells(figure: Figure) -> tuple[str, ...]:
    """Write a figure as a row."""
    holds = {None: "", True: "yes", False: "NO"}[figure.holds]
    low, high = (number(each(figure.runs)) for each in (min, max))
    cpu = f"{figure.cpu:.2f}"
    return (figure.what, number(figure.value), figure.unit, low, high, cpu, figure.target, holds, figure.note)


def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def as_text(machine: dict[str, str], figures: Sequence[Figure]) -> str:
    rows = [HEAD, *map(cells, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join((*(f"{name}: {text}" for name, text in machine.items()), "", *table, "", verdict(figures)))


def verdict(figures: Iterable[Figure]) -> str:
    judged = [figure for figure in figures if figure.holds is not None]
    short = [figure.what for figure in judged if not figure.holds]
    return f"{len(judged) - len(short)} of {len(judged)} targets hold" + (
        f"; short: {'; '.join(short)}" if short else ""
    )


def as_json(machine: dict[str, str], figures: Iterable[Figure], measured: Iterable[comparison.Results]) -> str:
    rows = [
        {"what": f.what, "unit": f.unit, "value": f.value, "runs": list(f.runs), "cpu": f.cpu, "target": f.target}
        | {"holds": f.holds, "note": f.note}
        for f in figures
    ]
    runs = {results.broker.name: results.runs for results in measured}
    return json.dumps({"machine": machine, "figures": rows, **runs}, indent=2)


def as_page(machine: dict[str, str], figures: Sequence[Figure], scale: Scale) -> str:
    """Write the page of the documentation."""
    rows = [HEAD, ("---",) * len(HEAD), *map(cells, figures)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    facts = "\n".join(f"* {name}: {text}" for name, text in machine.items())
    return f"""# Benchmarks

Written by `nox -s bench -- --write`. Each figure is the median of {scale.runs} runs in fresh processes (the worker
process: {(scale.runs + 1) // 2}), with the lowest and the highest; "CPU s" is what one run took of all the processes
that it is about, read from the system. Absolute figures are those of this machine; ratios travel better.

{facts}

{table}

{verdict(figures)}.

What is measured:

* **memory** is the framework's own cost: a no-op async task from `receive` to settled, no I/O, `result_ttl=0`.
* **sqlite** drains what was queued before, with one worker in one process. huey does the same with its own consumer,
  one thread, on its own storage. Both have WAL and `synchronous=FULL`, which is the default of both: every commit is
  on the disk before it counts. The difference is how many tasks share a commit. huey 3 loses the tasks that a killed
  worker had taken; ours come back.
* **chord, chain, round trip**: client and worker are two processes on one file; the CPU is that of both.
* **group of 100,000**: the client's whole process, interpreter included, submitting from a generator.
* **worker**: the process that `motet worker` starts, or a script of ten lines with `app.make_worker()` where there is
  no command yet. Start counts from exec, with the message queued before, to the first line of its task.
* What has peers on a broker is explained with them, below.
"""


if __name__ == "__main__":
    main()
